"""The memory of this machine, for refusals of what certainly cannot fit. It does without JAX."""

import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from groundwork.errors import UserError


def of_machine() -> int:
    """Returns the bytes of this machine's physical memory, or fewer if a container or job has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_limits(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def _limits(groups: Path, root: Path) -> Iterator[int]:
    """Yields the limits of the control groups that this process is in, on Linux; see cgroups(7).

    A container may see its own group as the root of the tree, so folders may be missing.
    """
    lines = groups.read_text().splitlines() if groups.exists() else []
    for kinds, group in (line.split(":", 2)[1:] for line in lines):
        if kinds == "memory":
            tree, name = root / "memory", "memory.limit_in_bytes"  # version 1
        elif not kinds:
            tree, name = root, "memory.max"
        else:
            continue
        inner = PurePosixPath(group.lstrip("/"))
        for file in (tree / folder / name for folder in (inner, *inner.parents)):
            said = file.read_text().strip() if file.is_file() else ""
            if said.isdigit():  # otherwise "max"
                yield int(said)


def of_process() -> int:
    """Returns the bytes of physical memory that this process holds."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:  # only Linux has it; elsewhere the most that it held is known
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def check(
    what: str, needed: int, there: int | None = None, where: str = "this machine has"
) -> None:
    """Refuses what needs more memory than there is at all.

    Args:
      what: the keys of the config that ask for it, such as `data.pad=8`.
      needed: bytes, at least.
      there: bytes; by default those of the machine.
      where: whose memory that is, with its verb.

    Raises:
      UserError: it cannot fit.
    """
    there = of_machine() if there is None else there
    if needed > there:
        raise UserError(
            f"{what} needs {shown(needed)} of memory or more, but {where} {shown(there)}: choose "
            "less"
        )


def shown(count: int) -> str:
    """Returns a number of bytes with a unit, such as `1.5 GiB`."""
    units = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
    place = min(max(0, (count.bit_length() - 1) // 10 - 1), len(units) - 1)
    if count >= 1024 ** (len(units) + 1):
        return f"2**{count.bit_length() - 1} bytes"
    return f"{count / 1024 ** (place + 1):.1f} {units[place]}"
