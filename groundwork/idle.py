"""Settings of a config that change nothing, so that a run can say so. Read `warnings` first.

A key is `idle` where another key keeps it from having an effect. Defaults are idle all the time, so
a run warns of those alone that were typed. What lies `beyond` a run's end is a mistake wherever it
stands.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from groundwork import named
from groundwork.architectures import pretrained
from groundwork.train.optim import OptimizerSpec

Idle = Mapping[str, str]  # a key of the config, or a section → the reason
Trained = Mapping[str, OptimizerSpec]  # section of steps, such as `train` → its optimiser
WITHOUT_FILES = ("digit_canvases", "digits", "mnist1d")


def warnings(beyond: Iterable[str], idle: Idle, given: Iterable[str]) -> list[str]:
    """Returns one line for each setting without effect.

    Args:
      beyond: lines about values.
      idle: keys and sections.
      given: the keys that the command line sets.
    """
    said = []
    for key in given:
        reason = idle.get(key) or idle.get(key.partition(".")[0])
        if reason:
            said.append(f"{key} has no effect: {reason}")
    return [*beyond, *said]


def beyond_steps(spec: Any, trained: Trained) -> list[str]:
    """Returns lines about intervals and learning rates that go on after the last step.

    Args:
      spec: of a command, with `eval_every` and the sections in `trained`.
      trained: the sections that are in use.
    """
    steps = {name: getattr(spec, name).steps for name in trained}
    lines = []
    if steps and spec.eval_every > max(steps.values()):
        lines.append(
            f"eval_every={spec.eval_every} is more than the {max(steps.values())} steps of a "
            "network, which is evaluated at its last step alone"
        )
    for name, optimizer in trained.items():
        lines += _beyond(optimizer, steps[name])
    return lines


def of_optimizers(optimizers: Sequence[OptimizerSpec]) -> dict[str, str]:
    """Returns the idle keys of optimisers."""
    idle = {}
    for spec in optimizers:
        section = spec.SECTION
        if spec.name not in ("momentum", "nesterov"):
            idle[f"{section}.momentum"] = f"{section}.name={spec.name} takes none"
        if spec.schedule != "step" or not spec.drop_steps:
            missing = "" if spec.schedule != "step" else " without drop_steps"
            reason = f"{section}.schedule={spec.schedule}{missing} has no drops"
            idle[f"{section}.drop_factor"] = reason
    return idle


def of_source(path: str) -> dict[str, str]:
    """Returns the idle keys of a config's `source` section."""
    if not path:
        return {"source.unit": "source.path is empty"}
    return {"source.unit": f"{path} is no run"} if pretrained.is_file(path) else {}


def of_data(section: Mapping[str, Any]) -> dict[str, str]:
    """Returns the idle keys of a config's `data` section."""
    source, idle = section["source"], {}
    if not section.get("validation_examples", 0):
        idle["data.split_seed"] = "data.validation_examples=0 holds none out"
    if source in WITHOUT_FILES or named.is_own(source):
        idle["data.dir"] = f"data.source={source} reads no files"
    if named.is_own(source):
        idle["data.name"] = f"data.source={source} says which data set it is"
    return idle


def _beyond(spec: OptimizerSpec, steps: int) -> list[str]:
    section, lines = spec.SECTION, []
    if spec.schedule != "step" and spec.drop_steps:
        lines.append(
            f"{section}.drop_steps={spec.drop_steps} has no effect: set {section}.schedule=step"
        )
    elif late := [step for step in spec.drop_steps if step >= steps]:
        lines.append(
            f"{section}.drop_steps={spec.drop_steps}: the last of {steps} steps is before "
            f"{', '.join(map(str, late))}, where the rate will not drop"
        )
    if spec.warmup_steps > steps:
        lines.append(
            f"{section}.warmup_steps={spec.warmup_steps} is more than the {steps} steps: the rate "
            f"never reaches {section}.learning_rate"
        )
    return lines
