"""The config's sections as dataclasses that check themselves, and the units of a search."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from compress import made as made_lib
from compress.made import ORIGINAL, CompressSpec
from compress.search import evolve, history, lineage
from compress.search.lineage import Lineage
from compress.search.space import SpaceSpec
from compress.spec import SECTIONS
from compress.stages.quantize_spec import QuantizeSpec
from compress.stages.structured import StructuredSpec
from groundwork import idle, typed
from groundwork.errors import UserError, unknown
from groundwork.sections import (
    LOSS,
    CheckpointSpec,
    at_least,
    check_counts,
    check_keys,
    sections,
    values,
)
from groundwork.train import loss_spec
from groundwork.typed import Seed

COSTS = ("bytes", "multiply_adds", "parameters", "milliseconds", "memory_bytes")
CONTROLS = ("", "random", "sampler")
KNOWLEDGE = "knowledge"  # the unit of sensitivities and costs


@dataclasses.dataclass(frozen=True)
class BudgetSpec:
    """`budget`: what the network may cost; 0 = anything. See `compress.search.costs`."""

    bytes: int
    multiply_adds: int
    parameters: int
    milliseconds: float
    memory_bytes: int
    engine: str
    threads: int

    def __post_init__(self) -> None:
        at_least("budget", self, **dict.fromkeys(COSTS, 0), threads=1)

    @property
    def asked(self) -> dict[str, float]:
        """Name of a cost → the most that it may be, of those that are limited."""
        return {name: getattr(self, name) for name in COSTS if getattr(self, name)}


@dataclasses.dataclass(frozen=True)
class AccuracySpec:
    """`accuracy`: what the network may lose, and which cost is then the least.

    Attributes:
      loss: of the accuracy (or other metric) on validation, in the mean; below 0 = not asked.
      cost: a name of `COSTS`.
    """

    loss: float
    cost: str

    def __post_init__(self) -> None:
        if self.cost not in COSTS:
            raise unknown("accuracy.cost", self.cost, COSTS)


@dataclasses.dataclass(frozen=True)
class StrategySpec:
    """`search`: how choices are proposed, and how candidates are trained.

    Attributes:
      sampler: of `evolve.SAMPLERS`.
      population: candidates of a generation.
      screened: how many of its proposals are looked at for each candidate; the one that loses least
        beyond the analytic choice of its costs, by the additive model, is evaluated.
      around: the analytic choices with which the search begins: budgets times these.
      uniform: how many uniform settings are among the first candidates.
      control: "" = the search; `random` draws every choice, and `sampler` asks the sampler alone,
        both without sensitivities; for comparisons of equal cost.
      steps: of a round of training, under the mask, and as many of the codebooks before a judgment;
        0 = nothing is trained.
      rungs: rounds after which a candidate is judged; the best go on to the next.
      promoted: the share that does, in (0, 1].
      finalists: candidates that are trained for longer in the end; the best of them is chosen.
      seconds: of all candidates, after which none is begun; 0 = no limit. Of those that are
        evaluated at the same time the longest counts.
      examples: of training, on which sensitivities are measured.
      baselines: folders of finished runs of `compress`, for the report.
      choice: a file `choice.json` of a run, whose network is made again; "" = none.
      parallel: candidates of a round, which are proposed without each other's results.
      board: a folder in which runs of this search share their units; "" = the run is alone.
      member: tells such runs apart.
    """

    sampler: str
    population: int
    screened: int
    around: Annotated[tuple[float, ...], "numbers above 0, such as (2.0, 1.0)"]
    uniform: int
    control: str
    steps: int
    rungs: Annotated[tuple[int, ...], "rising counts, such as (1, 3)"]
    promoted: float
    finalists: int
    seconds: float
    examples: int
    baselines: Annotated[tuple[str, ...], "folders of runs"]
    choice: str
    parallel: int
    board: str
    member: int

    def __post_init__(self) -> None:
        if self.sampler not in evolve.SAMPLERS:
            raise unknown("search.sampler", self.sampler, evolve.SAMPLERS)
        if self.control not in CONTROLS:
            raise unknown("search.control", self.control, CONTROLS)
        at_least("search", self, population=2, screened=1, uniform=0, steps=0, finalists=1)
        at_least("search", self, seconds=0, examples=1, parallel=1, member=0)
        rungs = self.rungs
        if not rungs or min(rungs) < 1 or list(rungs) != sorted(set(rungs)):
            raise UserError(f"search.rungs={rungs} must be rising counts from 1, such as (1, 3)")
        if not self.around or min(self.around) <= 0:
            raise UserError(f"search.around={self.around} must be numbers above 0")
        if not 0 < self.promoted <= 1:
            raise UserError(f"search.promoted={self.promoted} must be in (0, 1]")


@dataclasses.dataclass(frozen=True)
class CodebookSpec:
    """`quantize`: see the section of that name of `compress.main`; all codebooks are of k-means."""

    other_bits: int
    activation_range: str
    rate: float
    rate_importance: str

    @property
    def whole(self) -> QuantizeSpec:
        """The section as the stages have it."""
        unused: dict[str, Any] = dict(init="linear", bits=(4,), layers={}, mixed=False)
        unused |= dict(symmetric=True, per_channel=False, range="minmax", scales="trained")
        unused |= dict(stochastic=False, scaled=True, fine_tune=True, bias_correction="none")
        unused |= dict(activation_bits=0, gradient_bits=0)
        unused |= dict(rate_rounds=1)
        return QuantizeSpec(method="kmeans", **dataclasses.asdict(self), **unused)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchSpec:
    """A whole search.

    Attributes:
      compress: what the stages of `compress` read: the original's training, fine-tuning, data.
      given: choices that are made again, one after the other, in place of a search; or None.
    """

    compress: CompressSpec
    evaluations: int
    budget: BudgetSpec
    accuracy: AccuracySpec
    space: SpaceSpec
    search: StrategySpec
    given: Lineage | None = None

    @property
    def seed(self) -> Seed:
        """Of the run."""
        return self.compress.seed

    @property
    def replicates(self) -> int:
        """The number R of networks that are trained at once."""
        return self.compress.replicates

    @property
    def eval_every(self) -> int:
        """Steps between two evaluations in a training."""
        return self.compress.eval_every

    @property
    def checkpoint(self) -> CheckpointSpec:
        """How often a training is saved."""
        return self.compress.checkpoint

    @property
    def candidates(self) -> int:
        """The number of candidates."""
        return len(self.given.steps) if self.given else self.evaluations

    @property
    def rounds(self) -> list[range]:
        """The numbers of the candidates that are evaluated at the same time."""
        size, count = 1 if self.given else self.search.parallel, self.candidates
        return [range(i, min(i + size, count)) for i in range(0, count, size)]

    @property
    def knows(self) -> bool:
        """Whether sensitivities and costs of single layers are measured first."""
        return not self.given and not self.search.control

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the costs that are held against the accuracy."""
        return tuple(self.budget.asked) or (self.accuracy.cost,)


def from_config(config: Mapping[str, Any]) -> SearchSpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    own = {"budget": BudgetSpec, "accuracy": AccuracySpec, "space": SpaceSpec}
    own |= {"search": StrategySpec, "quantize": CodebookSpec}
    shared = ["seed", "replicates", "eval_every", "data", "model", *SECTIONS]
    check_keys(config, ["evaluations", *shared, *own], optional=LOSS)
    found = sections(config, own)
    quantize = found.pop("quantize").whole
    units = StructuredSpec((0.5,), found["space"].criterion, compensate=True)
    compress = CompressSpec(
        **values(config, CompressSpec),
        stages=(),
        sections={"quantize": quantize, "structured": units},
        **sections(config, SECTIONS),
        loss=loss_spec.from_config(config),
    )
    check_counts(compress)
    path = found["search"].choice
    given = lineage.read(path) if path else None
    evaluations = typed.value("evaluations", config["evaluations"], int)
    spec = SearchSpec(compress=compress, evaluations=evaluations, given=given, **found)
    _check_asked(spec)
    _check_evaluations(spec)
    if not config["data"]["validation_examples"]:
        raise UserError(
            "data.validation_examples=0: candidates are chosen by examples that are held out: set "
            "it above 0"
        )
    return spec


def without_effect(spec: SearchSpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    inner = spec.compress
    trained = {} if inner.source.path else {"train": inner.optimizer}
    trained |= {"fine_tune": inner.fine_tune_optimizer} if inner.fine_tune.steps else {}
    keys = idle.of_optimizers(list(trained.values())) | idle.of_data(config["data"])
    keys |= idle.of_source(inner.source.path)
    if inner.source.path:
        keys |= dict.fromkeys(("train.steps", "optimizer"), "source.path gives the original")
    if not spec.budget.milliseconds and spec.objectives != ("milliseconds",):
        reason = "no milliseconds are asked for"
        keys |= {"budget.engine": reason, "budget.threads": reason}
    if spec.budget.asked:
        keys["accuracy.cost"] = "budgets say which costs count"
    if spec.search.control == "random":
        keys |= dict.fromkeys(("search.sampler", "search.population"), "search.control=random")
    if not spec.search.board:
        keys["search.member"] = "search.board is not set"
    elif spec.search.parallel == 1:
        keys["search.board"] = "search.parallel=1: runs would wait for each other"
    if not spec.knows:
        reason = "search.choice says what is made" if spec.given else "search.control knows nothing"
        keys |= {f"search.{key}": reason for key in ("around", "uniform", "examples")}
    return idle.warnings([], keys, given)


def unit_names(spec: SearchSpec) -> list[str]:
    """Returns the names of all units of a run."""
    first = [made_lib.unit_name(ORIGINAL), *([KNOWLEDGE] if spec.knows else [])]
    return [*first, *map(history.name_of, range(spec.candidates)), chosen_unit(spec)]


def steps(spec: SearchSpec, unit: str) -> int | None:
    """Returns the training steps of a unit; candidates take as many as their promise is worth."""
    if unit == made_lib.unit_name(ORIGINAL):
        return 0 if spec.compress.source.path else spec.compress.train.steps
    return 0 if unit == KNOWLEDGE else None


def chosen_unit(spec: SearchSpec) -> str:
    """Returns the unit of the network that is chosen after so many evaluations."""
    return f"chosen/{spec.candidates:04d}"


def _check_asked(spec: SearchSpec) -> None:
    asked, loss = spec.budget.asked, spec.accuracy.loss
    if not asked and loss < 0:
        raise UserError(
            "nothing is asked for: set a budget, such as budget.bytes=20000, or accuracy.loss=0.005"
        )
    if asked and loss >= 0:
        names = " and ".join(f"budget.{name}" for name in asked)
        raise UserError(
            f"{names} and accuracy.loss={loss:g} are both set: name what the network may cost, or "
            "what it may lose (accuracy.loss=-1 = anything)"
        )


def _check_evaluations(spec: SearchSpec) -> None:
    if spec.given and spec.evaluations:
        raise UserError(
            f"evaluations={spec.evaluations}: search.choice makes one network again: set it to 0"
        )
    if not spec.given and spec.evaluations < 1:
        raise UserError(f"evaluations={spec.evaluations} must be at least 1")
    if not spec.search.steps and spec.space.densities:
        raise UserError(
            "search.steps=0 trains nothing, and nothing would make up for pruned weights: set "
            "space.densities=()"
        )
    if spec.given and spec.search.control:
        raise UserError("search.control and search.choice are both set: leave one out")
    if not spec.given and "random" not in (spec.search.control, spec.search.sampler):
        evolve.check_installed()
