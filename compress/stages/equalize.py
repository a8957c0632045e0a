"""The stage `equalize`: without training, kernels get ranges that lose less in few bits."""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import form as form_lib
from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.quantize import data_free
from compress.stages.stage import Stage, Step, unpruned
from groundwork import trees
from groundwork.errors import UserError
from groundwork.runs.progress import Reporter

AFTER = ("factorize", "structured", "quantize")  # the stages that may follow


@dataclasses.dataclass(frozen=True)
class EqualizeSpec:
    """`equalize`: BatchNorm is folded into kernels; see `compress.quantize.data_free`.

    Attributes:
      cross_layer: whether the ranges of neighbouring layers are made even as well.
    """

    cross_layer: bool


def place(spec: CompressSpec) -> None:
    """Refuses stages that would undo it."""
    for stage in spec.after("equalize"):
        if stage not in AFTER:
            raise UserError(f"stages: {stage} must come before equalize")


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses to train, or rank by its scales, a network whose BatchNorm has been folded."""
    folds = shaped.shapes is None or len(shaped.shapes) > 1
    after = spec.after("equalize")
    if folds and "structured" in after and spec.sections["structured"].criterion == "scale":
        raise UserError(
            "structured.criterion=scale ranks by BatchNorm's scales, which are all 1 after "
            "equalize: take another, such as l1"
        )
    tuned = spec.sections["quantize"].fine_tune
    trained = [name for name in after if tuned or name != "quantize"]
    if trained and spec.fine_tune.steps and folds:
        raise UserError(
            f"stages: {trained[0]} trains after equalize, where BatchNorm would normalise anew: "
            "set fine_tune.steps=0"
        )
    return shaped


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Folds BatchNorm, and evens ranges if the config says so."""
    context, section = pipeline.context, pipeline.spec.sections["equalize"]
    each = []
    for r in range(context.replicates):
        one = jax.tree.map(np.asarray, trees.replicate(before.variables, r))
        reporter = context.reporter if r == 0 else None
        each.append(_equalized(section, before.form, one, context.dataset.example, reporter))
    variables: Any = trees.stack(each)
    mask = unpruned(before.mask, variables["params"], before.mask)
    return before._replace(variables=variables, mask=mask)


def _equalized(
    section: EqualizeSpec, form: Form, variables: Any, example: Any, reporter: Reporter | None
) -> Any:
    """Returns the variables of one replicate; a reporter is told what stays as it was, and why."""
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example)
    apply = form_lib.evaluation(form)
    folded = data_free.fold(apply, variables, two)
    variables = folded.variables
    if reporter:
        reporter.say(f"layers that take in what scales their outputs: {len(folded.folded)}")
        _tell(reporter, "not folded", folded.left)
    if section.cross_layer:
        evened = data_free.equalize(apply, variables, two)
        variables = evened.variables
        if reporter:
            reporter.say(f"layers that have the ranges of those that follow: {len(evened.pairs)}")
            _tell(reporter, "not made even", evened.left)
    return jax.tree.map(jnp.asarray, variables)


def _tell(reporter: Reporter, what: str, left: Mapping[str, str]) -> None:
    """Says what was left, one line for each reason."""
    by_reason = collections.defaultdict(list)
    for path, reason in left.items():
        by_reason[reason].append(path.removeprefix("params/").removesuffix("/kernel"))
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        reporter.say(f"{what}, since {reason}: {', '.join(paths[:3])}{more}")


STAGE = Stage(
    section=EqualizeSpec,
    run=run,
    steps=lambda section: [Step("equalize", 0)],
    place=place,
    check=check,
    trains=lambda section: (),
)
