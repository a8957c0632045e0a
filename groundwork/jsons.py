"""JSON that others may have written or damaged."""

import json
from typing import Any

DEEPEST = 64  # levels of nesting; a run's files have about ten


def parse(text: str | bytes) -> Any:
    """Returns the value that a text says.

    Raises:
      ValueError: it is no JSON, or not in UTF-8, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not _is_shallow(value, DEEPEST):
        raise ValueError("it is nested too deeply")
    return value


def _is_shallow(value: Any, levels: int) -> bool:
    """Returns whether a value is nested at most so many levels deep."""
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)
