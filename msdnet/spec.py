"""The config's sections as dataclasses that check themselves; ConfigDicts stop here."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    LOSS,
    SHARED,
    CheckpointSpec,
    LogSpec,
    TrainSpec,
    check_counts,
    check_keys,
    sections,
    values,
)
from groundwork.train import loss_spec
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Seed
from msdnet.exits import CONFIDENCES
from msdnet.networks import NETWORKS, attributes, section_of


@dataclasses.dataclass(frozen=True)
class ExitsSpec:
    """`exits`: how exits are trained and when images leave; see `objective` and `exits`.

    Attributes:
      weights: of the exits of `msdnet` in the loss; empty = 1 each. Others have equal weights.
      distillation: the weight of the last exit's answers as targets of the others; 0 = off.
      distillation_temperature: of these answers.
      equilibrium: whether gradients are rescaled (gradient equilibrium).
      confidence: `softmax`, `entropy` or `margin`.
      calibrate: whether each exit's logits are divided by a temperature that is fitted on the
        validation split; see `calibration.fit`.
    """

    weights: Annotated[tuple[float, ...], "numbers from 0, such as (1.0, 2.0)"]
    distillation: float
    distillation_temperature: float
    equilibrium: bool
    confidence: str
    calibrate: bool

    def __post_init__(self) -> None:
        if self.confidence not in CONFIDENCES:
            raise unknown("exits.confidence", self.confidence, CONFIDENCES)
        if min(self.weights, default=0) < 0 or (self.weights and not sum(self.weights)):
            raise UserError(f"exits.weights={self.weights} must be numbers from 0, not all 0")
        if self.distillation < 0:
            raise UserError(f"exits.distillation={self.distillation} must be at least 0")
        if self.distillation_temperature <= 0:
            raise UserError(
                f"exits.distillation_temperature={self.distillation_temperature} must be positive"
            )


@dataclasses.dataclass(frozen=True)
class MSDNetSpec:
    """A whole experiment; `sections` has network → its attributes."""

    seed: Seed
    replicates: int
    eval_every: int
    networks: Annotated[tuple[str, ...], "names, such as ('msdnet', 'resnets')"]
    sections: Mapping[str, Mapping[str, Any]]
    train: TrainSpec
    optimizer: OptimizerSpec
    exits: ExitsSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec

    def __post_init__(self) -> None:
        check_counts(self)
        for name in self.networks:
            if name not in NETWORKS:
                raise unknown("network", name, NETWORKS)
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise UserError(f"networks={self.networks} must name at least one network, each once")


def from_config(config: Mapping[str, Any]) -> MSDNetSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(MSDNetSpec)} - {"sections"}
    check_keys(config, [*keys, "data", *map(section_of, NETWORKS)], optional=LOSS)
    loss = loss_spec.from_config(config)
    if loss.name != "cross_entropy" or loss.kwargs:
        raise UserError(
            f"loss={loss.name}: exits choose when to stop by probabilities of classes: leave "
            "loss=cross_entropy and loss_kwargs={}"
        )
    names = config["networks"]
    several = {**config, "networks": (names,) if isinstance(names, str) else names}
    return MSDNetSpec(
        **values(several, MSDNetSpec, "networks"),
        **sections(config, {**SHARED, "exits": ExitsSpec}),
        sections={name: attributes(name, config[section_of(name)]) for name in NETWORKS},
    )


def without_effect(spec: MSDNetSpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    keys = {**idle.of_optimizers([spec.optimizer]), **idle.of_data(config["data"])}
    used = {section_of(name) for name in spec.networks}
    for name in NETWORKS:
        if section_of(name) not in used:
            keys[section_of(name)] = f"networks={spec.networks} has no {section_of(name)}"
    if "msdnet" not in spec.networks:
        keys["exits.weights"] = "they are those of msdnet's exits alone"
    if not spec.exits.distillation:
        keys["exits.distillation_temperature"] = "exits.distillation=0 is off"
    if all(getattr(NETWORKS[name], "alone", False) for name in spec.networks):
        keys["exits.equilibrium"] = f"no exits of networks={spec.networks} share a block"
    beyond = idle.beyond_steps(spec, {"train": spec.optimizer})
    return idle.warnings(beyond, keys, given)


def unit_name(network: str) -> str:
    """Returns `networks/msdnet`."""
    return f"networks/{network}"


def unit_names(spec: MSDNetSpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    return [unit_name(network) for network in spec.networks]


def steps(spec: MSDNetSpec, unit: str) -> int:
    """Returns the training steps of a unit."""
    del unit
    return spec.train.steps


def following(spec: MSDNetSpec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    del spec
    run = shlex.quote(folder)
    return f"python -m deploy.main --source={run} writes files of engines, and times them"
