"""The config's sections as dataclasses that check themselves; ConfigDicts stop here."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from groundwork import config as config_lib
from groundwork import idle, typed
from groundwork.devices.mesh import MeshSpec
from groundwork.errors import UserError, shown, unknown
from groundwork.sections import (
    LOSS,
    SHARED,
    CheckpointSpec,
    LogSpec,
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
from groundwork.typed import Levels, Seed
from lottery.branches import BRANCHES
from lottery.ticket_section import Chosen, TicketSpec
from lottery.tickets import scored_names, unit_name
from pruning.criteria import CRITERIA, OF_TRAINING
from pruning.section import PruneSpec

AT_MOST = "scratch_b_at_most"  # the key of `branches` that is no branch


@dataclasses.dataclass(frozen=True)
class RewindSpec:
    """`rewind`: the step to which tickets are rewound, and what is restored.

    `restore`: `weights` restores parameters and batch statistics, with fresh optimiser moments;
    `state` restores the moments, too. In both cases the learning rate's schedule and the data order
    continue at `step`.
    """

    step: int
    restore: Literal["weights", "state"]

    def __post_init__(self) -> None:
        at_least("rewind", self, step=0)


@dataclasses.dataclass(frozen=True)
class TicketPruneSpec(PruneSpec):
    """`prune`: as `PruneSpec`.

    `score_step` is the step after which a ticket's weights are scored, to choose the next level's
    mask; -1 = the last one. With `before_training`, the mask of each level is chosen by the weights
    at step 0, from all of them.
    """

    score_step: int = -1
    before_training: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("prune", self, score_step=-1)
        if self.before_training and set(self.needs) & set(OF_TRAINING):
            raise UserError(
                f"prune.criterion={self.criterion} looks at a training, which "
                "prune.before_training=true has not: set one of them otherwise"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        """What the criterion needs; see `Criterion`."""
        return CRITERIA[self.criterion].needs


@dataclasses.dataclass(frozen=True)
class PublishedSpec:
    """`published`: figures that the report shows beside a run's own; a config may lack it.

    Attributes:
      source: where they stand.
      level: of the ticket and the random mask.
      ticket: test accuracies, of which the report shows the lowest and the highest.
      random_mask: likewise.
      dense: likewise, of level 0.
    """

    source: str
    level: int
    ticket: tuple[float, ...]
    random_mask: tuple[float, ...]
    dense: tuple[float, ...]

    def __post_init__(self) -> None:
        at_least("published", self, level=0)
        for key in ("ticket", "random_mask", "dense"):
            if not getattr(self, key):
                raise UserError(f"published.{key} is empty: give accuracies, such as (0.9, 0.91)")


SECTIONS: dict[str, Any] = {
    **SHARED,
    "prune": TicketPruneSpec,
    "rewind": RewindSpec,
}


@dataclasses.dataclass(frozen=True)
class LotterySpec:
    """A whole experiment; `branches` has branch → the levels to train it at.

    `scratch_b_at_most`, a key of `branches`, has the most steps of `scratch_b`, as a multiple of
    `train.steps`; 0 = any.
    """

    seed: Seed
    levels: Levels
    replicates: int
    eval_every: int
    train: TrainSpec
    optimizer: OptimizerSpec
    prune: TicketPruneSpec
    rewind: RewindSpec
    branches: Mapping[str, tuple[int, ...]]
    mesh: MeshSpec
    checkpoint: CheckpointSpec
    log: LogSpec
    loss: LossSpec = dataclasses.field(default_factory=LossSpec)
    ticket: TicketSpec = dataclasses.field(default_factory=TicketSpec)
    scratch_b_at_most: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self)
        at_least("", self, levels=0)
        if self.rewind.step >= self.train.steps:
            raise UserError(
                f"rewind.step={self.rewind.step} must be less than train.steps={self.train.steps}"
            )
        if self.prune.before_training and self.rewind.step:
            raise UserError(
                f"prune.before_training=true finds tickets at step 0: set rewind.step=0, not "
                f"{self.rewind.step}"
            )
        if self.ticket.source and self.rewind.step and self.rewind.restore == "state":
            raise UserError(
                "rewind.restore=state: ticket.source has no optimiser's moments; set "
                "rewind.restore=weights"
            )
        self._check_branches()
        if not self.rewind.step < self.score_step <= self.train.steps:
            raise UserError(
                f"prune.score_step={self.score_step} must be a step of a level's training: beyond "
                f"rewind.step={self.rewind.step} and at most train.steps={self.train.steps}, or -1 "
                "for the last"
            )

    def _check_branches(self) -> None:
        most = self.scratch_b_at_most
        if most and not most >= 1:
            raise UserError(
                f"branches.scratch_b_at_most={most} must be at least 1; 0 bounds nothing"
            )
        if any(self.branches.get("finetune", ())) and self.optimizer.schedule == "cosine":
            raise UserError(
                "branches.finetune goes on at the last step's learning rate, which "
                "optimizer.schedule=cosine lets fall to 0: take branches.lr_rewind, or "
                "optimizer.schedule=step"
            )
        going_on = [name for name, levels in self.branches.items() if levels]
        going_on = [name for name in going_on if BRANCHES[name].goes_on]
        reason = "prune.before_training=true" if self.prune.before_training else ""
        if "movement" in self.prune.needs:
            reason = f"prune.criterion={self.prune.criterion}"
        if self.ticket.source:
            reason = "ticket.source"
        if going_on and reason:
            raise UserError(
                f"branches.{going_on[0]} prunes by the weights of its own level before, which "
                f"{reason} does not look at: set branches.{going_on[0]}=()"
            )

    @property
    def trained_levels(self) -> tuple[int, ...]:
        """The levels that are trained: all of them, or those of `ticket.levels`."""
        return self.ticket.trained(self.levels)

    @property
    def score_step(self) -> int:
        """The step after which weights are scored."""
        return self.train.steps if self.prune.score_step == -1 else self.prune.score_step

    @property
    def saves_scored(self) -> bool:
        """Whether the state that is scored is a unit of its own: it is early, or holds sums."""
        if self.prune.before_training or self.ticket.source:
            return False
        return self.score_step < self.train.steps or "movement" in self.prune.needs


def from_config(config: Mapping[str, Any]) -> LotterySpec:
    """Checks a resolved config (nested dicts) and returns its spec.

    Raises:
      UserError: a key is wrong; the error names it and says what would be right.
    """
    keys = {field.name for field in dataclasses.fields(LotterySpec)}
    keys -= {"loss", "scratch_b_at_most", "ticket"}
    check_keys(config, [*keys, "data", "model"], optional=[*LOSS, "published", "ticket"])
    numbers = values(config, LotterySpec, "levels")
    if "published" in config:
        sections(config, {"published": PublishedSpec})
    ticket = config_lib.build(TicketSpec, config.get("ticket", {}), "ticket")
    return LotterySpec(
        **numbers,
        **sections(config, SECTIONS),
        branches=_branches(config["branches"], ticket.trained(numbers["levels"])),
        scratch_b_at_most=_at_most(config["branches"]),
        loss=loss_spec.from_config(config),
        ticket=ticket,
    )


def _branches(section: Mapping[str, Any], trained: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Returns branch → its levels that are trained; in the config they are "all" or integers."""
    if not isinstance(section, Mapping):
        raise UserError(f"branches={shown(section)} must be a section, with keys and values")
    branches = {}
    for name, given in section.items():
        if name == AT_MOST:
            continue
        if name not in BRANCHES:
            raise unknown("branch", name, (*BRANCHES, AT_MOST))
        chosen = typed.value(f"branches.{name}", given, Chosen)
        if chosen == "all":
            chosen = tuple(level for level in trained if level)
        chosen = (chosen,) if isinstance(chosen, int) else chosen
        if min(chosen, default=1) < 1:
            raise UserError(
                f"branches.{name}={shown(given)} must be 'all' or levels from 1, such as (4, 8)"
            )
        branches[name] = tuple(level for level in chosen if level in trained)
        before = {level for level in trained if 0 < level < max(branches[name], default=0)}
        without = before - set(branches[name])
        if BRANCHES[name].goes_on and without:
            raise UserError(
                f"branches.{name}={shown(given)}: it goes on from its own level before, so give "
                f"level {min(without)}, too, or 'all'"
            )
    return branches


def _at_most(section: Mapping[str, Any]) -> float:
    """Returns `branches.scratch_b_at_most`."""
    return typed.value(f"branches.{AT_MOST}", section.get(AT_MOST, 0.0), float)


def without_effect(spec: LotterySpec, config: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """Returns one line for each setting that changes nothing; see `idle.warnings`."""
    beyond = idle.beyond_steps(spec, {"train": spec.optimizer})
    for name, chosen in config["branches"].items():
        if name == AT_MOST:
            continue
        if "levels" in given and f"branches.{name}" not in given:
            continue  # a short run of a config that has more levels
        asked = chosen if isinstance(chosen, list | tuple) else (chosen,)
        if late := [level for level in asked if level != "all" and level > spec.levels]:
            beyond.append(f"branches.{name}: {late} are not trained, since levels={spec.levels}")
        untrained = {*range(1, spec.levels + 1)} - {*spec.trained_levels}
        if left := [level for level in asked if level in untrained]:
            beyond.append(
                f"branches.{name}: {left} are not trained, since ticket.levels has others"
            )
    if spec.ticket.source and (late := spec.ticket.beyond(spec.levels)):
        beyond.append(f"ticket.levels: {late} are not trained, since levels={spec.levels}")
    one_rate = spec.optimizer.schedule == "constant" and not spec.optimizer.warmup_steps
    if one_rate and spec.branches.get("finetune") and spec.branches.get("lr_rewind"):
        beyond.append(
            "branches.finetune and branches.lr_rewind are the same: optimizer.schedule=constant "
            "has one learning rate"
        )
    keys = {**idle.of_optimizers([spec.optimizer]), **idle.of_data(config["data"])}
    if spec.ticket.source:
        taken = [f"prune.{f.name}" for f in dataclasses.fields(spec.prune)]
        keys |= dict.fromkeys(taken, "ticket.source has the masks")
        del keys["prune.prunable"], keys["prune.scope"]
    else:
        keys["ticket"] = "ticket.source is empty"
    if not spec.levels:
        keys["prune"] = "levels=0 prunes nothing"
    if not spec.branches.get("scratch_b"):
        keys[f"branches.{AT_MOST}"] = "branches.scratch_b=()"
    if spec.prune.before_training:
        keys["prune.score_step"] = "prune.before_training=true scores at step 0"
    if not spec.prune.seen:
        keys["prune.examples"] = f"prune.criterion={spec.prune.criterion} looks at none"
    if not spec.rewind.step:
        keys["rewind.restore"] = "at rewind.step=0 there are no moments to restore"
    return idle.warnings(beyond, keys, given)


def unit_names(spec: LotterySpec) -> list[str]:
    """Returns the names of all units of a run, in their order."""
    names = ["start"]
    for level in spec.trained_levels:
        names += scored_names(spec.saves_scored, level)
        names.append(unit_name(level, "ticket"))
        names += [unit_name(level, b) for b, chosen in spec.branches.items() if level in chosen]
    return names


def steps(spec: LotterySpec, unit: str) -> int | None:
    """Returns the training steps of a unit; None where they depend on what a ticket keeps."""
    if unit == "start":
        return 0 if spec.ticket.source else spec.rewind.step
    if unit.startswith("scored/"):
        return spec.score_step - spec.rewind.step
    name = unit.rpartition("/")[2]
    if name == "ticket":
        return spec.train.steps - (spec.score_step if spec.saves_scored else spec.rewind.step)
    begins = {"rewind": spec.rewind.step, "start": 0}.get(BRANCHES[name].begins)
    return None if begins is None else spec.train.steps - begins


def following(spec: LotterySpec, folder: str) -> str:
    """Returns what the user of a finished run may do next."""
    more = "" if spec.ticket.source else f"; --config.levels={spec.levels + 4} goes on from here"
    return f"lottery.load({folder!r}, level={spec.trained_levels[-1]}) gives the ticket{more}"
