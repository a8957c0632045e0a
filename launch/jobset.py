"""python -m launch.jobset --name=N --image=I --nodes=4 … -- COMMAND: a command on Kubernetes."""

import argparse
from collections.abc import Sequence

from groundwork.entry import run_main
from groundwork.errors import UserError
from launch import cli, kubectl
from launch.jobset_manifest import DIGEST, render

STORY = """
Starts COMMAND on --nodes hosts, one process each, as a JobSet; the processes form one mesh. The
image is built from launch/kubernetes/Dockerfile. The claim is a ReadWriteMany volume. It is
mounted at runs/, so COMMAND's --workdir must be in there (its default is), or in a bucket, such as
gs://BUCKET/FOLDER. Then no claim is needed, but an image with the packages of buckets, and a
service account of the pods that may write there.

A host that is preempted saves and exits with 75; then all hosts start again and continue, however
often. Failures count: after --max-restarts of them the JobSet has failed. A host that is lost
without notice counts as a failure if the others end before the cluster knows of it.

The same command again starts a JobSet that has ended or failed once more, and leaves one alone
that still runs or waits. A JobSet of that name with another command is refused while it has not
ended.

  python -m launch.jobset --name=mnist --image=REGISTRY/lottery --nodes=4 \\
      --resource=nvidia.com/gpu=8 --cpu=32 --memory=256Gi --claim=runs --queue=lab -- \\
      python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=runs/mnist1d_full

On GKE, --type stands for a TPU slice: the labels of its nodes, their number and the chips of each.
v4-N and v5p-N count cores, of which a chip has two; v5e-N and v6e-N count chips. A host has 4
chips, also of v6e-8. With --slices the processes of all slices form one mesh.

  python -m launch.jobset --name=mnist --image=REGISTRY/lottery --type=v6e-64 --slices=2 -- \\
      python -m lottery.main --config=configs/lottery/mnist1d_full.py --workdir=runs/mnist1d_full
"""


def main(argv: Sequence[str]) -> None:
    """Fill in the template and create the JobSet, or with --dry-run print it."""
    flags, words = cli.split(argv)
    options = _parser().parse_args(flags)
    text, digest = render(options, words)
    where = (options.name, options.namespace)
    if options.dry_run:
        print(f"# {cli.as_typed(kubectl.get(*where))}")
        print(
            f"# {cli.as_typed(kubectl.delete(*where, options.save_seconds))}    # if it has ended"
        )
        print(f"# {cli.as_typed(kubectl.create())} < this\n{text}", end="")
        return
    kubectl.require()
    if _is_to_start(options, digest):
        kubectl.run(kubectl.create(), text)
    selector = f"jobset.sigs.k8s.io/jobset-name={options.name}"
    namespace = f"--namespace={options.namespace}"
    print(f"kubectl logs {namespace} --selector={selector} --follow --prefix    # what it says")
    print(f"kubectl delete jobset {namespace} {options.name}    # ends it; the run stays")


def _is_to_start(options: argparse.Namespace, digest: str) -> bool:
    """Returns whether a JobSet is to be created; one that has ended is removed first.

    Raises:
      UserError: another JobSet of that name has not ended.
    """
    found = kubectl.found(options.name, options.namespace)
    if found is None:
        return True
    if state := kubectl.ended(found):
        print(f"JobSet {options.name} is there ({state.lower()}) and is started again")
        kubectl.run(kubectl.delete(options.name, options.namespace, options.save_seconds))
        return True
    if (found["metadata"].get("annotations") or {}).get(DIGEST) != digest:
        end = cli.as_typed(["kubectl", "delete", "jobset", f"--namespace={options.namespace}"])
        raise UserError(
            f"JobSet {options.name} has not ended, and has another command or other flags: give "
            f"another --name, or end it with {end} {options.name}"
        )
    print(f"JobSet {options.name} is there and has not ended: nothing is started")
    return False


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser("launch.jobset", "--name=NAME --image=IMAGE [FLAGS] -- COMMAND", STORY)
    add = parser.add_argument
    add("--name", required=True, help="of the JobSet")
    add("--image", required=True, help="with this code in /code")
    add("--nodes", type=cli.at_least(1), help="hosts (default: 1, or those of --type)")
    add("--type", help="a TPU slice of v4, v5e, v5p or v6e, such as v6e-64; see below")
    add("--slices", type=cli.at_least(1), default=1, help="of --type (default: 1)")
    claim = "PersistentVolumeClaim of runs/ (runs; none if --workdir is in a bucket)"
    add("--claim", help=claim)
    add("--namespace", default="default", help="(default)")
    resource = "what a host takes, such as nvidia.com/gpu=8; repeat for more"
    add("--resource", action="append", default=[], metavar="KEY=N", help=resource)
    add("--cpu", metavar="N", help="processors that a host is promised, such as 8")
    add("--memory", metavar="SIZE", help="memory that a host is promised, such as 64Gi")
    node = "a label that a host's node must have; repeat for more"
    add("--node", action="append", default=[], metavar="KEY=VALUE", help=node)
    tolerate = "a taint that a host's node may have, such as KEY=VALUE:NoSchedule; repeat for more"
    add("--tolerate", action="append", default=[], metavar="TAINT", help=tolerate)
    add("--queue", metavar="NAME", help="Kueue's LocalQueue, in which it waits for its turn")
    add("--priority", metavar="NAME", help="Kueue's WorkloadPriorityClass")
    add("--max-restarts", type=cli.at_least(0), default=3, help="after failures (3)")
    add("--save-seconds", type=cli.at_least(1), default=120, help="to save in (120)")
    ttl = "remove it so long after its end (default: it stays)"
    add("--ttl-seconds", type=cli.at_least(0), metavar="N", help=ttl)
    add("--dry-run", action="store_true", help="print it, start nothing")
    return parser


if __name__ == "__main__":
    run_main(main)
