"""Students that also learn from what layers of the network before the stage are given."""

# R replicates

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from compress import form as form_lib
from compress import hints
from compress.form import Form
from groundwork import keys, trees
from groundwork.context import Context
from groundwork.errors import about
from groundwork.train import replicates
from groundwork.train.step import LossFn
from groundwork.trees import Shapes, Variables

KEY = "distill.hints"


class Hinted(NamedTuple):
    """The hints of a recipe."""

    pairs: tuple[tuple[str, str], ...]  # paths of a layer of the student and of one of the teacher
    teacher: Form  # the form of the network before the stage
    weight: float
    alone: bool  # whether hints are all that is learned

    @property
    def of_student(self) -> tuple[str, ...]:
        """The paths of the student's layers."""
        return tuple(ours for ours, _ in self.pairs)

    def loss(self, base: LossFn) -> LossFn:
        """Returns the loss with hints of a student whose variables carry its teacher."""
        network = form_lib.network(self.teacher)
        guide = hints.carried(network, [theirs for _, theirs in self.pairs])
        return hints.make_loss(base, guide, self.weight, self.alone)


def sizes(
    hinted: Hinted, student: tuple[Form, Shapes], teacher: Shapes, example: Any
) -> list[tuple[int, int]]:
    """Returns the channels of each pair of layers, from shapes of one replicate.

    Raises:
      UserError: a layer is unknown, or the pairs do not fit.
    """
    form, shapes = student
    with about(KEY):
        return hints.sizes(
            hinted.pairs,
            (form_lib.network(form), shapes),
            (form_lib.network(hinted.teacher), teacher),
            trees.example(example),
        )


def begin(
    context: Context, hinted: Hinted, student: tuple[Form, Variables], teacher: Variables
) -> Variables:
    """Returns the student's variables [R, …] with new regressors.

    Args:
      context: of the run.
      hinted: of the recipe.
      student: its form and variables [R, …].
      teacher: variables [R, …].
    """
    form, variables = student
    one, other = (jax.eval_shape(_first, tree) for tree in (variables, teacher))
    channels = sizes(hinted, (form, one), other, context.dataset.example)

    def draw(root: jax.Array) -> Any:
        return hints.regressors(keys.stream(root, "hints"), channels)

    drawn: Callable[..., Any] = replicates.each_replicate(context.mesh, draw, once=True)
    return hints.begin(variables, drawn(context.roots))


def _first(variables: Variables) -> Variables:
    return trees.replicate(variables, 0)
