"""The stage `share`: groups of layers become one layer, and are trained."""

import dataclasses
from typing import Annotated

import jax
import numpy as np

from compress import made as made_lib
from compress import share
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages.stage import Stage, one_each, train
from groundwork.errors import UserError, about
from groundwork.trees import Shapes


@dataclasses.dataclass(frozen=True)
class ShareSpec:
    """`share`: groups of layers that become one; see `compress.share`."""

    groups: Annotated[tuple[tuple[str, ...], ...], "groups of paths, such as (('a', 'b'),)"]
    values: share.Values


def place(spec: CompressSpec) -> None:
    """Refuses a stage that would tie nothing."""
    if not spec.sections["share"].groups:
        raise UserError("share.groups is empty: name layers, such as (('conv1', 'conv2'),)")


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses groups that cannot be tied."""
    groups = spec.sections["share"].groups
    shapes = tied(shaped.shapes, groups)
    form = shaped.form._replace(groups=groups)
    return dataclasses.replace(shaped, form=form, shapes=shapes)


def tied(shapes: Shapes, groups: share.Groups) -> Shapes:
    """Returns the shapes of variables once groups are tied.

    Raises:
      UserError: they cannot be tied.
    """
    with about("share.groups"):
        params = jax.eval_shape(lambda tree: share.tie(tree, groups), shapes["params"])
    return {**shapes, "params": params}


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Ties layers; weights that were pruned in all layers of a group stay pruned."""
    section = pipeline.spec.sections["share"]
    params = share.tie(before.variables["params"], section.groups, section.values)
    form = before.form._replace(groups=section.groups)
    variables = {**before.variables, "params": jax.tree.map(np.asarray, params)}
    mask = made_lib.zeros(variables["params"]) if before.mask else {}
    recipe = pipeline.spec.fine_tuned(form)
    tuned = train(pipeline, node, recipe, (variables, mask), before)
    return before._replace(form=form, variables=tuned, mask=mask)


STAGE = Stage(
    section=ShareSpec,
    run=run,
    steps=lambda section: one_each("share", (0,)),
    place=place,
    check=check,
    first="layers are tied before they are changed one by one",
)
