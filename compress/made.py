"""The records that all parts of a run share: its spec, and networks between stages."""

# R replicates

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import numpy as np

from compress.fit import Compiled, Recipe
from compress.form import Form
from compress.stages.latent import Quantizer
from groundwork import trees
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.mesh import MeshSpec
from groundwork.runs import trained
from groundwork.sections import CheckpointSpec, LogSpec, SourceSpec, TrainSpec
from groundwork.train import replicates
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.trees import Params, Shapes, Variables
from groundwork.typed import Seed
from pruning import masks
from pruning.masks import Mask

ORIGINAL = "original"


@dataclasses.dataclass(frozen=True)
class CompressSpec:
    """A whole experiment.

    Attributes:
      stages: names of `all_stages.STAGES`, in their order in this run.
      sections: stage → its section of the config, also for stages that the run does not have.
    """

    seed: Seed
    replicates: int
    eval_every: int
    stages: Annotated[tuple[str, ...], "names, such as ('prune', 'quantize')"]
    sections: Mapping[str, Any]
    source: SourceSpec
    train: TrainSpec
    optimizer: OptimizerSpec
    fine_tune: TrainSpec
    fine_tune_optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)

    def as_original(self, form: Form) -> Recipe:
        """Returns the recipe of a network that is trained like the original."""
        return Recipe(form=form, steps=self.train, optimizer=self.optimizer, loss=self.loss)

    def fine_tuned(self, form: Form, quantizer: Quantizer | None = None) -> Recipe:
        """Returns the recipe of a network that was changed and is trained by `fine_tune`."""
        return Recipe(
            form=form,
            steps=self.fine_tune,
            optimizer=self.fine_tune_optimizer,
            quantizer=quantizer,
            loss=self.loss,
        )

    def before(self, stage: str) -> tuple[str, ...]:
        """Returns the stages of the run before one of them."""
        return self.stages[: self.stages.index(stage)]

    def after(self, stage: str) -> tuple[str, ...]:
        """Returns the stages of the run after one of them."""
        return self.stages[self.stages.index(stage) + 1 :]


@dataclasses.dataclass(frozen=True)
class Node:
    """A network of a run, which a stage makes of its parent."""

    name: str  # "prune-12+quantize-4"
    parent: str  # "prune-12"; "" for the original
    stage: str
    setting: float  # level, share or bits; 0 if the stage has none
    leaf: bool  # whether the pipeline ends here

    @property
    def unit(self) -> str:
        """The name of its unit in the run."""
        return unit_name(self.name)


class Made(NamedTuple):
    """A network between two stages. Leaves have a leading replicate axis R.

    `peers` are variables that its training made besides, by number. They are saved with the
    network, and a later step of the same stage reads them; they do not go on with it.
    """

    form: Form
    variables: Variables  # after `quantize`, of stored forms
    mask: Mask  # path → bool; empty before anything is pruned
    bits: Mapping[str, int]  # path of a kernel → bits; empty before `quantize`
    peers: Mapping[str, Variables] = MappingProxyType({})


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """A run, the module of its original network, and its compiled programs.

    Attributes:
      context: of the run.
      spec: of the command.
      model: the module of the original.
      compiled: recipe → programs, compiled once per recipe.
    """

    context: Context
    spec: CompressSpec
    model: Any
    compiled: Callable[[Recipe], Compiled]

    def mapped(self, function: Callable[..., Any], *trees: Any) -> Any:
        """Returns the result, on the host, of a function of one replicate for trees [R, …]."""
        compiled = replicates.each_replicate(self.context.mesh, function, once=True)
        return mesh_lib.fetch(compiled(*self.context.put(trees)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaped:
    """What is known of a network before anything is trained.

    Attributes:
      form: how it computes.
      shapes: of its variables, of one replicate; None if they depend on ranks.
      dataset: the data that it is trained on.
    """

    form: Form
    shapes: Shapes | None
    dataset: AnyDataset


def counts(params: Params, mask: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries of each leaf, and how many of them are not pruned, [R].

    Args:
      params: of the network as it computes, leaves [R, …]: factors of factorised layers, tied
        layers once, and weights in place of codebooks and scales.
      mask: path → [R, …] bool.
    """
    shapes = {path: leaf.shape for path, leaf in trees.flatten(params).items()}
    sizes = {path: math.prod(shape[1:]) for path, shape in shapes.items()}
    kept = {path: [size] * shapes[path][0] for path, size in sizes.items()}
    kept |= {
        path: [int(np.sum(replicate)) for replicate in keep]
        for path, keep in mask.items()
        if path in kept
    }
    return {"sizes": sizes, "kept": kept}


def parameters(params: Params, mask: Mapping[str, Any]) -> list[int]:
    """Returns how many parameters of each replicate are not pruned, prunable or not: see `counts`.

    Zeros that quantisation makes are not pruned; codebooks and scales are no parameters.
    """
    return np.sum(list(counts(params, mask)["kept"].values()), axis=0).tolist()


def unit_name(network: str) -> str:
    """Returns `networks/prune-12`."""
    return f"networks/{network}"


def given(spec: CompressSpec, model: Any, shapes: Shapes) -> Variables:
    """Returns the variables [R, …] of the network that `source` names, checked by the shapes."""
    source = spec.source
    return trained.source(source.path, source.unit, model, shapes, spec.replicates)


def given_mask(spec: CompressSpec, variables: Variables) -> Mask:
    """Returns the mask of the network that `source` names: its run's, or that of its zeros.

    The run's counts biases that were pruned, which are zero in any new network, and keeps a weight
    that happens to be zero. A mask that keeps everything is left out.
    """
    params = variables["params"]
    mask: Any = trained.mask(spec.source.path, spec.source.unit, params)
    if mask is None:
        return zeros(params)
    return mask if any(not kept.all() for kept in mask.values()) else {}


def zeros(params: Params) -> Mask:
    """Returns the mask of the kernels' entries that are not zero; empty if none is zero."""
    mask = {path: leaf != 0 for path, leaf in masks.flatten(params).items()}
    return mask if any(not kept.all() for kept in mask.values()) else {}
