"""python -m launch.jobset --name=N --image=I --nodes=4 … -- COMMAND: a command on Kubernetes."""

import argparse
import json
import re
import shutil
import string
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from groundwork import buckets
from groundwork.entry import run_main
from groundwork.errors import UserError
from launch import cli

TEMPLATE = Path(__file__).parent / "kubernetes" / "jobset.yaml"
CODE = PurePosixPath("/code")  # where this repository is in the image
RUNS = CODE / "runs"  # where the shared disk is mounted
PORT = 8476
LONGEST_HOST = 63  # the number of characters that DNS allows for NAME-hosts-0-INDEX

STORY = """
Starts COMMAND on --nodes hosts, one process each, as a JobSet; the processes form one mesh. The
image is built from launch/kubernetes/Dockerfile. The claim is a ReadWriteMany volume. It is
mounted at runs/, so COMMAND's --workdir must be in there (its default is).

A host that is preempted saves and exits with 75; then all hosts start again and continue, however
often. Failures count: after --max-restarts of them the JobSet has failed. A host that is lost
without notice counts as a failure if the others end before the cluster knows of it.

  python -m launch.jobset --name=mnist --image=REGISTRY/lottery --nodes=4 \\
      --resource=nvidia.com/gpu=8 --claim=runs -- \\
      python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=runs/mnist1d_full
"""


def main(argv: Sequence[str]) -> None:
    """Fill in the template and apply it, or with --dry-run print it."""
    flags, words = cli.split(argv)
    options = _parser().parse_args(flags)
    text = render(options, words)
    apply = ["kubectl", "apply", "--filename=-"]
    if options.dry_run:
        print(f"# {cli.as_typed(apply)} < this\n{text}", end="")
        return
    if shutil.which("kubectl") is None:
        raise UserError("kubectl is not on the PATH: --dry-run prints what it would be given")
    done = subprocess.run(apply, input=text, text=True)
    if done.returncode:
        raise UserError(f"kubectl refused (exit code {done.returncode}); it said why above")
    where = f"--namespace={options.namespace}"
    pods = f"jobset.sigs.k8s.io/jobset-name={options.name}"
    print(f"kubectl logs {where} --selector={pods} --follow --prefix    # what it says")
    print(f"kubectl delete jobset {where} {options.name}    # ends it; the run stays in the claim")


def render(options: argparse.Namespace, words: Sequence[str]) -> str:
    """Returns the template, filled in.

    Raises:
      UserError: Kubernetes would refuse a name, or the run would be lost with its host.
    """
    _check(options, words)
    host = f"{options.name}-hosts-0-0.{options.name}"
    filled = {
        "name": options.name,
        "namespace": options.namespace,
        "nodes": options.nodes,
        "image": json.dumps(options.image),
        "claim": options.claim,
        "max_restarts": options.max_restarts,
        "save_seconds": options.save_seconds,
        "coordinator": json.dumps(f"{host}:{PORT}"),
        "limits": json.dumps(dict(_pair("--resource", given) for given in options.resource)),
        "node_selector": json.dumps(dict(_pair("--node", given) for given in options.node)),
        # Kubernetes would replace $(NAME); $$ stands for one dollar.
        "command": json.dumps([word.replace("$(", "$$(") for word in words], ensure_ascii=False),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text[text.index("apiVersion:") :]  # the comment before it is about the template
    return string.Template(text).substitute(filled)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("launch.jobset", "--name=NAME --image=IMAGE [FLAGS] -- COMMAND", STORY)
    parser.add_argument("--name", required=True, help="of the JobSet")
    parser.add_argument("--image", required=True, help="with this code in /code")
    parser.add_argument("--nodes", type=cli.at_least(1), default=1, help="hosts (default: 1)")
    parser.add_argument("--claim", default="runs", help="PersistentVolumeClaim of runs/ (runs)")
    parser.add_argument("--namespace", default="default", help="(default)")
    resource = "what a host takes, such as nvidia.com/gpu=8; repeat for more"
    parser.add_argument("--resource", action="append", default=[], metavar="KEY=N", help=resource)
    node = "a label that a host's node must have; repeat for more"
    parser.add_argument("--node", action="append", default=[], metavar="KEY=VALUE", help=node)
    parser.add_argument(
        "--max-restarts", type=cli.at_least(0), default=3, help="after failures (3)"
    )
    parser.add_argument(
        "--save-seconds", type=cli.at_least(1), default=120, help="to save in (120)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print it, apply nothing")
    return parser


def _check(options: argparse.Namespace, words: Sequence[str]) -> None:
    cli.command(words)
    for flag, name in (("name", options.name), ("namespace", options.namespace)):
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
            raise UserError(f"--{flag}={name} must be lower-case letters, digits and - in between")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", options.claim):
        raise UserError(f"--claim={options.claim} must be lower-case letters, digits, - and .")
    host = f"{options.name}-hosts-0-{options.nodes - 1}"
    if len(host) > LONGEST_HOST:
        raise UserError(
            f"--name={options.name} is too long: {host} has over {LONGEST_HOST} letters"
        )
    for place, word in enumerate(words):
        if word == "--workdir" or word.startswith("--workdir="):
            given = word.partition("=")[2] or "".join(words[place + 1 : place + 2])
            if not buckets.is_url(given):
                _check_workdir(PurePosixPath(given))


def _check_workdir(given: PurePosixPath) -> None:
    inside = (CODE / given).is_relative_to(RUNS) and ".." not in given.parts
    if not inside or CODE / given == RUNS:
        raise UserError(
            f"--workdir={given} would be lost with its host: put it in runs/, the claim, or in a "
            "bucket"
        )


def _pair(flag: str, given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not key or not equals:
        raise UserError(f"{flag}={given} must be KEY=VALUE")
    return key, value


if __name__ == "__main__":
    run_main(main)
