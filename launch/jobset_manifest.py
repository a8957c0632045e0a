"""The JobSet that Kubernetes is given: the template, filled in, once everything is checked."""

import argparse
import hashlib
import json
import re
import string
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from groundwork import buckets
from groundwork.errors import UserError
from launch import cli, tpu_slices
from launch.tpu_slices import Slice

TEMPLATE = Path(__file__).parent / "kubernetes" / "jobset.yaml"
CODE = PurePosixPath("/code")  # where this repository is in the image
RUNS = CODE / "runs"  # where the shared disk is mounted
PORT = 8476
LONGEST = 63  # the number of characters that DNS allows for a name
SUFFIX = "-abcde"  # stands for what Kubernetes appends to a pod's name; JobSet counts it
DIGEST = "launch.jobset/digest"  # the annotation that tells one command's JobSet from another's
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
QUEUE, PRIORITY = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/priority-class"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
QUANTITY = r"[0-9]+(\.[0-9]+)?([KMGTPE]i|[mkMGTPE])?"
DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"  # a label's value, if it has one
KEY = rf"({DNS}/)?{LABEL}"


def render(options: argparse.Namespace, words: Sequence[str]) -> tuple[str, str]:
    """Returns the template, filled in, and its digest, which is one of its annotations.

    Args:
      options: the flags of `launch.jobset`.
      words: of the command.

    Raises:
      UserError: Kubernetes would refuse a name or a flag's value, or the run would be lost with
        its host.
    """
    cli.command(words)
    slice_ = _slice(options)
    hosts = slice_.hosts if slice_ else options.nodes or 1
    _check_names(options, hosts)
    workdirs = _workdirs(words)
    claim = options.claim or (None if workdirs and all(map(buckets.is_url, workdirs)) else "runs")
    filled = {
        "name": options.name,
        "namespace": options.namespace,
        "labels": json.dumps(_labels(options)),
        "slices": options.slices,
        "nodes": hosts,
        "image": json.dumps(options.image),
        "mounts": json.dumps(claim and [{"name": "runs", "mountPath": str(RUNS)}]),
        "volumes": json.dumps(
            claim and [{"name": "runs", "persistentVolumeClaim": {"claimName": claim}}]
        ),
        "max_restarts": options.max_restarts,
        "save_seconds": options.save_seconds,
        "ttl_seconds": json.dumps(options.ttl_seconds),
        "environment": json.dumps(_environment(options, slice_, hosts)),
        "resources": json.dumps(_resources(options, slice_)),
        "node_selector": json.dumps(_node_selector(options, slice_)),
        "tolerations": json.dumps([_toleration(given) for given in options.tolerate]),
        # Kubernetes would replace $(NAME); $$ stands for one dollar.
        "command": _in_yaml([word.replace("$(", "$$(") for word in words]),
    }
    alone = {EXCLUSIVE: tpu_slices.POOL} if slice_ and slice_.hosts > 1 else {}
    digest = hashlib.sha256(_fill(filled, alone).encode()).hexdigest()[:16]
    return _fill(filled, {**alone, DIGEST: digest}), digest


def _fill(filled: dict[str, Any], annotations: dict[str, str]) -> str:
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text[text.index("apiVersion:") :]  # the comment before it is about the template
    text = string.Template(text).substitute(filled, annotations=json.dumps(annotations))
    return re.sub(r"(?m)^ *\w+: null( +#.*)?\n", "", text)  # what no flag has set


def _in_yaml(words: Sequence[str]) -> str:
    """Returns a list in YAML, which has other escapes than JSON for what does not print."""
    text = json.dumps(words, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)


def _slice(options: argparse.Namespace) -> Slice | None:
    """Returns the slice that --type asks for, if it does; what it says is not said again."""
    if options.type is None:
        if options.slices > 1:
            raise UserError(f"--slices={options.slices} needs --type, such as --type=v6e-64")
        return None
    slice_ = tpu_slices.of_type(options.type)
    if options.nodes not in (None, slice_.hosts):
        raise UserError(f"--type={options.type} has {slice_.hosts} hosts: leave --nodes out")
    if options.slices > 1 and slice_.hosts == 1:
        raise UserError(
            f"--slices={options.slices}: GKE joins slices of several hosts alone, and "
            f"--type={options.type} has one; give a larger --type"
        )
    return slice_


def _environment(
    options: argparse.Namespace, slice_: Slice | None, hosts: int
) -> list[dict[str, Any]]:
    """Returns the variables by which a host finds the others.

    The hosts of a TPU slice are numbered by GKE (TPU_WORKER_ID, TPU_WORKER_HOSTNAMES), and JAX
    must number its processes in the same way: it does so by itself. JobSet sets nothing about
    several slices, so that the variables of libtpu, which JAX reads, too, are set here.
    """
    first = f"{options.name}-hosts-0-0.{options.name}"
    if slice_ is None or hosts == 1:
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        return [
            _variable("JAX_COORDINATOR_ADDRESS", f"{first}:{PORT}"),
            _variable("JAX_NUM_PROCESSES", str(hosts)),
            _variable("JAX_PROCESS_ID", field=index),
        ]
    found = [_variable("JAX_DISTRIBUTED", "auto")]
    if options.slices > 1:
        number = "metadata.annotations['jobset.sigs.k8s.io/job-index']"
        found += [
            _variable("MEGASCALE_COORDINATOR_ADDRESS", first),
            _variable("MEGASCALE_NUM_SLICES", str(options.slices)),
            _variable("MEGASCALE_SLICE_ID", field=number),
        ]
    return found


def _variable(name: str, value: str = "", field: str = "") -> dict[str, Any]:
    if field:
        return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}
    return {"name": name, "value": value}


def _resources(options: argparse.Namespace, slice_: Slice | None) -> dict[str, dict[str, str]]:
    limits = _pairs("--resource", options.resource, QUANTITY)
    if slice_:
        _unsaid("--resource", tpu_slices.CHIPS, limits, "--type")
        limits[tpu_slices.CHIPS] = str(slice_.chips)
    requests = {}
    for key in ("cpu", "memory"):
        asked = getattr(options, key)
        if asked is None:
            continue
        if not re.fullmatch(QUANTITY, asked):
            raise UserError(f"--{key}={asked} must be a quantity, such as 8, 500m or 64Gi")
        _unsaid("--resource", key, limits, f"--{key}")
        requests[key] = asked
    return {"limits": limits, **({"requests": requests} if requests else {})}


def _node_selector(options: argparse.Namespace, slice_: Slice | None) -> dict[str, str]:
    given = _pairs("--node", options.node, f"({LABEL})?")
    labels = slice_.labels() if slice_ else {}
    for key in labels:
        _unsaid("--node", key, given, "--type")
    return {**given, **labels}


def _unsaid(flag: str, key: str, given: dict[str, str], other: str) -> None:
    if key in given:
        raise UserError(f"{flag}={key}={given[key]} and {other} are about the same: leave one out")


def _labels(options: argparse.Namespace) -> dict[str, str]:
    """Returns the labels by which Kueue queues a JobSet; none without --queue."""
    if options.priority is not None and options.queue is None:
        raise UserError(f"--priority={options.priority} is Kueue's: it needs --queue")
    found = {}
    for flag, label in (("queue", QUEUE), ("priority", PRIORITY)):
        name = getattr(options, flag)
        if name is None:
            continue
        if len(name) > LONGEST or not re.fullmatch(DNS, name):
            raise UserError(f"--{flag}={name} must be lower-case letters, digits, - and .")
        found[label] = name
    return found


def _toleration(given: str) -> dict[str, str]:
    """Returns the toleration that KEY, KEY=VALUE, KEY:EFFECT or KEY=VALUE:EFFECT stands for."""
    taint, colon, effect = given.partition(":")
    key, equals, value = taint.partition("=")
    if not re.fullmatch(KEY, key) or not re.fullmatch(f"({LABEL})?", value):
        raise UserError(f"--tolerate={given} must be KEY=VALUE:EFFECT, KEY:EFFECT or KEY")
    if colon and effect not in EFFECTS:
        raise UserError(f"--tolerate={given}: the effect must be one of {', '.join(EFFECTS)}")
    about = {"operator": "Equal", "value": value} if equals else {"operator": "Exists"}
    return {"key": key, **about, **({"effect": effect} if colon else {})}


def _check_names(options: argparse.Namespace, hosts: int) -> None:
    for flag, name in (("name", options.name), ("namespace", options.namespace)):
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name):
            raise UserError(f"--{flag}={name} must be lower-case letters, digits and - in between")
    if options.claim is not None and not re.fullmatch(DNS, options.claim):
        raise UserError(f"--claim={options.claim} must be lower-case letters, digits, - and .")
    if not re.fullmatch(r"\S+", options.image):
        raise UserError(f"--image={options.image} must be an image, such as REGISTRY/lottery:1")
    last = f"-hosts-{options.slices - 1}-{hosts - 1}{SUFFIX}"
    most = LONGEST - len(last)
    if len(options.name) > most:
        raise UserError(
            f"--name={options.name} has {len(options.name)} letters and may have {most}: the "
            f"pods' names, which end in {last}, may have {LONGEST}"
        )


def _workdirs(words: Sequence[str]) -> list[str]:
    """Returns the folders of the runs that a command names.

    Raises:
      UserError: a run would end up on a host's own disk.
    """
    found = []
    for place, word in enumerate(words):
        if word == "--workdir" or word.startswith("--workdir="):
            found.append(word.partition("=")[2] or "".join(words[place + 1 : place + 2]))
    for folder in found:
        path = CODE / folder
        inside = path.is_relative_to(RUNS) and path != RUNS and ".." not in path.parts
        if not inside and not buckets.is_url(folder):
            raise UserError(
                f"--workdir={folder} would be lost with its host: put it in runs/, the claim, or "
                "in a bucket"
            )
    return found


def _pairs(flag: str, given: Sequence[str], pattern: str) -> dict[str, str]:
    """Returns key → value of what a flag gives; the values have a pattern."""
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not re.fullmatch(KEY, key) or not equals or not re.fullmatch(pattern, value):
            raise UserError(f"{flag}={text} must be KEY=VALUE, as Kubernetes has them")
        _unsaid(flag, key, found, f"{flag}={text}")
        found[key] = value
    return found
