"""What all parts of a run share: its spec, and a network on its way through the stages."""

# R replicates

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from compress.fit import Compiled, Recipe
from compress.form import Form
from compress.stages.latent import Quantizer
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.mesh import MeshSpec
from groundwork.runs import trained
from groundwork.sections import CheckpointSpec, LogSpec, TrainSpec
from groundwork.train import replicates
from groundwork.train.optim import OptimizerSpec
from groundwork.trees import Params, Shapes, Variables
from lowrank.spec import SourceSpec
from pruning import masks
from pruning.masks import Mask

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True)
class CompressSpec:
    """A whole experiment.

    Attributes:
      stages: names of `all_stages.STAGES`, in the order in which they are done.
      sections: stage → its section of the config, also of stages that are not done.
    """

    seed: int
    replicates: int
    eval_every: int
    stages: tuple[str, ...]
    sections: Mapping[str, Any]
    source: SourceSpec
    train: TrainSpec
    optimizer: OptimizerSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec

    def as_original(self, form: Form) -> Recipe:
        """Returns the recipe of a network that is trained as the original is."""
        return Recipe(form=form, steps=self.train, optimizer=self.optimizer)

    def fine_tuned(self, form: Form, quantizer: Quantizer | None = None) -> Recipe:
        """Returns the recipe of a network that was changed, and is trained by `fine_tune`."""
        return Recipe(
            form=form,
            steps=self.fine_tune,
            optimizer=self.fine_tune_optimizer,
            quantizer=quantizer,
        )

    def before(self, stage: str) -> tuple[str, ...]:
        """Returns the stages that are done before one of them."""
        return self.stages[: self.stages.index(stage)]

    def after(self, stage: str) -> tuple[str, ...]:
        """Returns the stages that are done after one of them."""
        return self.stages[self.stages.index(stage) + 1 :]


@dataclasses.dataclass(frozen=True)
class Node:
    """A network of a run: what one more stage made of its parent."""

    name: str  # "prune-12+quantize-4"
    parent: str  # "prune-12"; of the original ""
    stage: str
    setting: float  # level, share or bits; 0 where the stage has none
    leaf: bool  # the pipeline ends here

    @property
    def unit(self) -> str:
        """Its unit of the run."""
        return unit_name(self.name)


class Made(NamedTuple):
    """A network on its way through the stages. Leaves have a leading replicate axis R."""

    form: Form
    variables: Any  # collections of arrays; after `quantize`, of stored forms
    mask: Mask  # path → bool; empty before anything is pruned
    bits: Mapping[str, int]  # path of a kernel → bits; empty before `quantize`


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """A run, the network that it starts from, and what compiles networks.

    Attributes:
      context: of the run.
      spec: the command's.
      model: the original's module.
      compiled: recipe → programs, each compiled once.
    """

    context: Context
    spec: CompressSpec
    model: nn.Module
    compiled: Callable[[Recipe], Compiled]

    def mapped(self, function: Callable[..., Any], *trees: Any) -> Any:
        """Returns a function of one replicate, called once on trees [R, …]; on the host."""
        compiled = replicates.each_replicate(self.context.mesh, function, once=True)
        return mesh_lib.fetch(compiled(*self.context.put(trees)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaped:
    """What is known of a network before anything is trained.

    Attributes:
      form: how it computes.
      shapes: of its variables, of one replicate; None where they depend on ranks.
      dataset: what it is trained on.
    """

    form: Form
    shapes: Shapes | None
    dataset: AnyDataset


def unit_name(network: str) -> str:
    """Returns `networks/prune-12`."""
    return f"networks/{network}"


def given(spec: CompressSpec, shapes: Shapes) -> Variables:
    """Returns the variables [R, …] of the network that `source` names, checked against shapes."""
    variables = trained.load(spec.source.path, spec.source.unit)
    return trained.replicated(variables, shapes, spec.replicates, spec.source.path)


def zeros(params: Params) -> Mask:
    """Returns the mask of kernels that have zeros among their entries; empty where none has."""
    mask = {path: leaf != 0 for path, leaf in masks.flatten(params).items()}
    return mask if any(not kept.all() for kept in mask.values()) else {}
