"""What a command says beforehand of a unit's training steps, beside what its run computed."""

from pathlib import Path

from groundwork.runs import identity, operations
from groundwork.study import Study


def agree(command: Study, folder: Path) -> set[str]:
    """Compares all units whose steps are known; returns the others."""
    spec = command.check(identity.read_about(folder)["config"])
    computed: dict[str, int] = {}
    for row in operations.read(folder / "metrics.jsonl"):
        computed[row["unit"]] = computed.get(row["unit"], 0) + row["step"] - row["first_step"]
    said = {unit: command.steps(spec, unit) for unit in command.units(spec)}
    known = {unit: steps for unit, steps in said.items() if steps is not None}
    assert known == {unit: computed.get(unit, 0) for unit in known}
    return said.keys() - known.keys()
