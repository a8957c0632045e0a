"""A graph as text of 80 columns: its groups, and what stays with the reasons."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 80
WINDOW = "a window moves over it"  # said of every kernel of a convolution


def table(groups: Iterable[Any], frozen: Mapping[str, str]) -> str:
    """Returns the groups and the frozen axes, in lines of at most 80 columns.

    A member is written as its path, its axis in brackets, and × the entries of each unit if they
    are several. Windows of kernels are left out, as they always stay.

    Args:
      groups: see `graph.Group`.
      frozen: "path axis" → why it stays.
    """
    lines: list[str] = []
    for group in groups:
        lines += _wrapped(f"{group.name}: {group.units} units, {_judged(group)}", "")
        lines += _wrapped(", ".join(map(_member, group.members)), "    ")
    reasons: dict[str, list[str]] = {}
    for place, why in frozen.items():
        if why != WINDOW:
            path, _, axis = place.rpartition(" ")
            reasons.setdefault(why, []).append(f"{path}[{axis}]")
    if reasons:
        lines += ["", "What stays:"]
    for why, places in reasons.items():
        lines += _wrapped(f"{why}:", "")
        lines += _wrapped(", ".join(places), "    ")
    return "\n".join(lines)


def _judged(group: Any) -> str:
    return f"not exact: {group.doubt}" if group.doubt else "exact"


def _member(member: Any) -> str:
    entries = member.positions.shape[1]
    return f"{member.path}[{member.axis}]" + (f"×{entries}" if entries > 1 else "")


def _wrapped(text: str, indent: str) -> list[str]:
    """Returns lines that are broken between words, and in a long path after a slash."""
    words = text.replace("/", "/\N{ZERO WIDTH SPACE}") if _longest(text) > WIDTH - 8 else text
    lines = textwrap.wrap(
        words.replace("\N{ZERO WIDTH SPACE}", " "),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent or "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("/ ", "/") for line in lines]


def _longest(text: str) -> int:
    return max(map(len, text.split()), default=0)
