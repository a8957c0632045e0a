"""One network of a run: its recipe and its programs.

A recipe has all that programs depend on. It is the argument of `compile_recipe`, and the key under
which programs are kept: networks of one recipe are compiled once, however many levels are trained.
"""

# R replicates

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import optax

from compress import form as form_lib
from compress import hints, mutual
from compress.form import Form
from compress.stages import latent, teachers
from compress.stages.hinted import Hinted
from compress.stages.latent import Quantizer
from compress.stages.teachers import Taught
from groundwork import trees
from groundwork.context import Context
from groundwork.sections import TrainSpec
from groundwork.train import loss_spec, networks, optim, programs, replicates
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.train.programs import Programs
from groundwork.train.step import Model, TrainState
from groundwork.trees import hashable
from pruning import enforce


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a network's programs depend on.

    Attributes:
      form: how it computes.
      steps: the number of steps, and of examples per step.
      optimizer: of the config.
      quantizer: for networks that are trained in few bits.
      taught: for networks that have teachers.
      hinted: for networks that also learn from layers of their teacher.
      students: how many of them teach each other; 1 = it learns without others.
      loss: of the run.
      restarts: whether the schedule begins anew every `steps.steps` steps, of which several such
        rounds may be trained.
    """

    form: Form
    steps: TrainSpec
    optimizer: OptimizerSpec
    quantizer: Quantizer | None = None
    taught: Taught | None = None
    hinted: Hinted | None = None
    students: int = 1
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)
    restarts: bool = False

    def __hash__(self) -> int:
        return hash(tuple(hashable(getattr(self, f.name)) for f in dataclasses.fields(self)))

    @property
    def network(self) -> Model:
        """The network to train."""
        network = form_lib.network(self.form)
        if self.students > 1:
            return mutual.together(network)
        if self.hinted:
            return hints.looking(network, self.hinted.of_student)
        return latent.network(self.quantizer, network) if self.quantizer else network

    def make_optimizer(self) -> optax.GradientTransformation:
        """Returns the optimiser of the config, which keeps latent weights in their range."""
        optimizer = optim.make(self.optimizer, self.steps.steps)
        if self.restarts:
            optimizer = optim.restarting(optimizer, self.steps.steps)
        return latent.clipped(self.quantizer, optimizer) if self.quantizer else optimizer


class Compiled(NamedTuple):
    """The compiled functions of a recipe."""

    programs: Programs
    start: Callable[..., TrainState]  # variables, mask → state before the first step


def compiler(context: Context) -> Callable[[Recipe], Compiled]:
    """Returns a function that compiles recipes, each of them once."""
    return functools.cache(functools.partial(compile_recipe, context))


def compile_recipe(context: Context, recipe: Recipe) -> Compiled:
    """Returns the compiled functions of a recipe."""
    dataset, network, loss = context.dataset, recipe.network, None
    form = replicates.default_form(recipe.form.model, trees.zeros(dataset.example))
    objective = loss_spec.build(recipe.loss, dataset.target)
    if recipe.taught:
        ensemble = teachers.ensemble(recipe.taught, dataset)
        loss = recipe.taught.loss(network, ensemble.teacher, objective)
        form = "single" if ensemble.mapped == "single" else form
        loss = recipe.hinted.loss(loss) if recipe.hinted else loss
    if recipe.students > 1:
        loss = mutual.make_loss(form_lib.network(recipe.form), recipe.students, objective)
    optimizer = recipe.make_optimizer()
    compiled = programs.make(
        network,
        enforce.enforce(optimizer, None),
        dataset,
        context.mesh,
        batch_size=recipe.steps.batch_size,
        stride=context.poll_steps,
        form=form,
        loss=loss,
        objective=objective,
    )
    start = networks.make_start(context, enforce.begin(optimizer), once=True)
    return Compiled(compiled, start)
