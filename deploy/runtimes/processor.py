"""What the processor's integers need of engines."""

import platform
from pathlib import Path

_X86 = ("x86_64", "amd64")
_CPUINFO = Path("/proc/cpuinfo")


def saturates() -> bool:
    """Says whether sums of two products of uint8 and int8 may saturate at 16 bits.

    That is so on x86 without VNNI, where engines take `vpmaddubsw` unless they are told not to.
    A processor that cannot be asked counts as one that saturates.
    """
    if platform.machine().lower() not in _X86:
        return False
    return not _CPUINFO.exists() or "vnni" not in _CPUINFO.read_text(errors="replace")
