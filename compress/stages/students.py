"""The section `distill` of the config, and the networks that the stage makes of another."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from compress.stages import peers
from compress.stages.stage import Step
from compress.stages.teachers import BEFORE, Lessons
from groundwork.errors import UserError, unknown

INITS = ("fresh", "shrink", "keep")
CONTROLS = ("alone", "direct")
STUDENT, ASSISTANT, HINT = "distill", "distill-assistant", "distill-hint"  # names of networks
ALONE = "distill-alone"


@dataclasses.dataclass(frozen=True)
class DistillSpec(Lessons):
    """`distill`: the student and its teachers.

    Attributes:
      model: the `model` section of the student; empty = the same architecture.
      init: `fresh`; `shrink` = the units that survived best, for a narrower student of the same
        family; `keep` = the network unchanged, for the same architecture.
      during: other stages in whose training the teachers teach, too.
      assistants: `model` sections of networks between `before` and the student, the largest first;
        each is taught by the one before it, and begins as `init` says.
      controls: students to compare with, which end there: `alone` = without a teacher; `direct` =
        taught by `before` itself, without assistants and hints.
      mutual: how many students teach each other from scratch instead; the first one goes on.
      hints: pairs of layers, `(of the student, of the network before)`: what the first is given
        becomes like what the second is given, by a regressor; see `compress.hints`.
      hint_steps: updates by hints alone, before the student is taught; 0 = hints beside teaching.
      hint_weight: of hints beside teaching.
    """

    model: Annotated[Mapping[str, Any], "a model section, or empty"]
    init: str
    during: Annotated[tuple[str, ...], "names, such as ('prune',)"]
    assistants: Annotated[
        tuple[Mapping[str, Any], ...], "model sections, such as ({'name': 'lenet_5'},)"
    ] = ()
    controls: Annotated[tuple[str, ...], "names, such as ('alone',)"] = ()
    mutual: int = 0
    hints: Annotated[tuple[tuple[str, ...], ...], "pairs of layers, such as (('fc2', 'fc2'),)"] = ()
    hint_steps: int = 0
    hint_weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.teachers or len(set(self.teachers)) < len(self.teachers):
            raise UserError(f"distill.teachers={self.teachers} must name teachers, each once")
        if self.init not in INITS:
            raise unknown("distill.init", self.init, INITS)
        if not 0 <= self.weight <= 1:
            raise UserError(f"distill.weight={self.weight} must be in [0, 1]")
        if self.temperature <= 0:
            raise UserError(f"distill.temperature={self.temperature} must be positive")
        if self.init == "shrink" and not self.model:
            raise UserError("distill.init='shrink' needs a narrower distill.model to shrink to")
        if self.init == "keep" and self.model:
            raise UserError("distill.init='keep' keeps the network: leave distill.model empty")
        for control in self.controls:
            if control not in CONTROLS:
                raise unknown("distill.controls", control, CONTROLS)
        if len(set(self.controls)) < len(self.controls):
            raise UserError(f"distill.controls={self.controls} must name each control once")
        if "direct" in self.controls and not (self.assistants or self.hints):
            raise UserError(
                "distill.controls: without distill.assistants and distill.hints, the student "
                "itself is taught directly: leave out 'direct'"
            )
        if self.assistants:
            self._check_assistants()
        if self.mutual:
            self._check_mutual()
        if self.hints:
            self._check_hints()

    def _check_assistants(self) -> None:
        if not self.model:
            raise UserError(
                "distill.assistants stand before a student of its own kind: set distill.model"
            )
        if BEFORE not in self.teachers:
            raise UserError(
                "distill.assistants teach as the network before each student: name 'before' in "
                "distill.teachers"
            )

    def _check_mutual(self) -> None:
        if self.mutual < 2:
            raise UserError(f"distill.mutual={self.mutual} must be 0, or 2 students or more")
        if self.init != "fresh":
            raise UserError(
                "distill.mutual: students that teach each other begin differently: set "
                "distill.init='fresh'"
            )
        if self.assistants or self.hints:
            raise UserError(
                "distill.mutual: students that teach each other have no teacher: leave "
                "distill.assistants and distill.hints empty"
            )

    def _check_hints(self) -> None:
        if any(len(pair) != 2 for pair in self.hints):
            raise UserError(
                f"distill.hints={self.hints} must be pairs of layers, such as (('fc2', 'fc2'),)"
            )
        if BEFORE not in self.teachers:
            raise UserError(
                "distill.hints are of the network before the stage: name 'before' in "
                "distill.teachers"
            )
        if self.assistants:
            raise UserError(
                "distill.hints name layers of one student and its teacher: leave "
                "distill.assistants empty"
            )
        if self.hint_steps < 0:
            raise UserError(f"distill.hint_steps={self.hint_steps} must be at least 0")
        if self.hint_weight <= 0:
            raise UserError(f"distill.hint_weight={self.hint_weight} must be positive")


def steps(section: DistillSpec) -> list[Step]:
    """Returns the assistants, each after the one before, the student, and what is compared."""
    made, last = [], ""
    for number in range(1, len(section.assistants) + 1):
        name = f"{ASSISTANT}-{number}"
        made.append(Step(name, number, last, continues=False))
        last = name
    if section.hints and section.hint_steps:
        made.append(Step(HINT, 0, continues=False))
    made.append(Step(STUDENT, 0, last))
    made += [Step(name, 0, STUDENT, continues=False) for name in peers.names(section.mutual)]
    return made + [Step(f"distill-{control}", 0, continues=False) for control in section.controls]


def sections(section: DistillSpec) -> dict[str, Mapping[str, Any]]:
    """Returns the `model` sections of assistants and student, by the key of the config."""
    named = {f"distill.assistants[{n}].name": one for n, one in enumerate(section.assistants)}
    return named | ({"distill.model.name": section.model} if section.model else {})


def idle(section: DistillSpec) -> dict[str, str]:
    """Returns the keys that change nothing."""
    unused: dict[str, str] = {}
    if not section.hints:
        unused |= dict.fromkeys(("hint_steps", "hint_weight"), "distill.hints is empty")
    elif section.hint_steps:
        unused["hint_weight"] = f"distill.hint_steps={section.hint_steps} learn by hints alone"
    if section.mutual and not section.during:
        reason = f"distill.mutual={section.mutual} students teach each other"
        names = (field.name for field in dataclasses.fields(Lessons))
        unused |= dict.fromkeys(names, reason)
    return unused
