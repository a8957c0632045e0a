"""The config's sections as dataclasses that check themselves, and the units of a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from deploy import engines, grids
from deploy.measure import Settings
from deploy.sources import networks
from deploy.sources.networks import TRAINED, Source
from groundwork import idle
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, about, unknown
from groundwork.sections import (
    LOSS,
    SHARED,
    CheckpointSpec,
    TrainSpec,
    at_least,
    check_counts,
    check_keys,
    sections,
    values,
)
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.optim import OptimizerSpec
from groundwork.typed import Seed

KINDS = ("float", "int8")
JAX = "jax"  # measured beside the engines


class FirstSpec(TrainSpec):
    """`train`: with 0 steps, the network is as its `init` gives it."""

    LEAST_STEPS = 0


@dataclasses.dataclass(frozen=True)
class SourceSpec:
    """`source`: see `deploy.sources.networks.Source`."""

    path: str
    unit: str
    replicate: int

    def __post_init__(self) -> None:
        at_least("source", self, replicate=0)

    @property
    def source(self) -> Source:
        """The source."""
        return Source(self.path, self.unit, self.replicate)


@dataclasses.dataclass(frozen=True)
class CalibrationSpec:
    """`calibration`: the training examples from which int8 gets its ranges, and how.

    Attributes:
      examples: the first ones of the training split.
      range: one of `grids.RANGES`.
      correct_biases: see `grids.quantized`.
    """

    examples: int
    range: str
    correct_biases: bool

    def __post_init__(self) -> None:
        at_least("calibration", self, examples=1)
        if self.range not in grids.RANGES:
            raise unknown("calibration.range", self.range, grids.RANGES)


@dataclasses.dataclass(frozen=True)
class MeasureSpec:
    """`measure`: how long, as `deploy.measure.Settings` says; and `examples`: of test, 0 = all."""

    rounds: int
    seconds: float
    warmup_seconds: float
    limit_seconds: float
    examples: int

    def __post_init__(self) -> None:
        at_least("measure", self, rounds=1, seconds=0, warmup_seconds=0, examples=0)
        if self.limit_seconds <= 0:
            raise UserError(f"measure.limit_seconds={self.limit_seconds} must be above 0")

    @property
    def settings(self) -> Settings:
        """The settings of a measurement."""
        return Settings(
            rounds=self.rounds,
            seconds=self.seconds,
            warmup_seconds=self.warmup_seconds,
            limit_seconds=self.limit_seconds,
        )


@dataclasses.dataclass(frozen=True)
class LogSpec:
    """`log`: where rows are written besides metrics.jsonl; and whether graphs are drawn."""

    tensorboard: bool
    page: bool = False
    graph: bool = False


SECTIONS: dict[str, Any] = {
    **SHARED,
    "train": FirstSpec,
    "log": LogSpec,
    "source": SourceSpec,
    "calibration": CalibrationSpec,
    "measure": MeasureSpec,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeploySpec:
    """The settings of a run.

    Attributes:
      engines: names of `engines.ENGINES`; () = all that are installed.
      kinds: of `KINDS`.
      threads: each on as many processors, as far as there are so many.
      batches: examples of a call; each has files of its own.
    """

    seed: Seed
    replicates: int
    eval_every: int
    engines: Annotated[tuple[str, ...], "names, such as ('onnxruntime', 'litert')"]
    kinds: tuple[str, ...]
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    source: SourceSpec
    calibration: CalibrationSpec
    measure: MeasureSpec
    train: FirstSpec
    optimizer: OptimizerSpec
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec

    def __post_init__(self) -> None:
        check_counts(self)
        for kind in self.kinds:
            if kind not in KINDS:
                raise unknown("kind in kinds", kind, KINDS)
        for key in ("kinds", "threads", "batches"):
            given = getattr(self, key)
            if not given or len(set(given)) < len(given):
                raise UserError(f"{key}={given} must name at least one, and each once")
        for key in ("threads", "batches"):
            if min(getattr(self, key)) < 1:
                raise UserError(f"{key}={getattr(self, key)} must be counts from 1")
        if max(self.threads) > engines.MOST_THREADS:
            raise UserError(f"threads={self.threads} must be at most {engines.MOST_THREADS}")
        if not self.source.path and self.source.replicate >= self.replicates:
            raise UserError(
                f"source.replicate={self.source.replicate} must be below replicates="
                f"{self.replicates}"
            )
        if len(set(self.engines)) < len(self.engines):
            raise UserError(f"engines={self.engines} must name each engine once")
        for name in self.engines:
            with about("engines"):
                engines.check_installed(name)
        if not self.chosen:
            raise UserError(
                "engines: none is installed here: `pip install -r requirements-deploy.txt` "
                f"installs {', '.join(engines.ENGINES)}"
            )

    @property
    def chosen(self) -> tuple[str, ...]:
        """The engines of the run."""
        return self.engines or tuple(engines.installed())


def from_config(config: Mapping[str, Any]) -> DeploySpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    own = ("engines", "kinds", "threads", "batches")
    check_keys(
        config,
        ["seed", "replicates", "eval_every", "data", "model", *own, *SECTIONS],
        optional=LOSS,
    )
    spec = DeploySpec(
        **values(config, DeploySpec, *own),
        **sections(config, SECTIONS),
        loss=loss_spec.from_config(config),
    )
    if config["data"].get("stream"):
        raise UserError("data.stream: calibration needs examples in memory: set it to false")
    return spec


def unit_names(spec: DeploySpec) -> list[str]:
    """Returns the names of all units: what is trained; then each network's files and measures.

    Raises:
      UserError: the source has no such network.
    """
    units = [] if spec.source.path else [TRAINED]
    for name in networks.names(spec.source.source):
        drawn = [graph_unit(name)] if spec.log.graph else []
        units += [files_unit(name), *drawn, measures_unit(name)]
    return units


def files_unit(network: str) -> str:
    """Returns the unit of a network's files."""
    return f"files/{network}"


def graph_unit(network: str) -> str:
    """Returns the unit of the picture and table of a network's graph."""
    return f"graphs/{network}"


def measures_unit(network: str) -> str:
    """Returns the unit of what was measured of a network's files."""
    return f"measures/{network}"


def without_effect(spec: DeploySpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    keys = {**idle.of_data(config["data"])}
    if spec.source.path:
        reason = "the network of source.path is trained already"
        keys |= {"train": reason, "optimizer": reason}
    else:
        keys |= {"source.unit": "source.path is empty", **idle.of_optimizers([spec.optimizer])}
    if "int8" not in spec.kinds:
        keys["calibration"] = f"kinds={spec.kinds} has no int8"
    trained = {} if spec.source.path else {"train": spec.optimizer}
    return idle.warnings(idle.beyond_steps(spec, trained), keys, given)


def following(spec: DeploySpec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    del spec
    return f"deploy.load(FILE, ENGINE) runs a file of {folder}/files in Python"


def steps(spec: DeploySpec, unit: str) -> int:
    """Returns the training steps of a unit."""
    return spec.train.steps if unit == TRAINED else 0
