"""`choice.json`: the choices that lead from the original to a network, so that it is made again."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from compress.search import settings
from compress.search.history import Candidate
from compress.search.settings import Choice
from groundwork import atomic, jsons, paths
from groundwork.errors import UserError, missing


class Ancestor(NamedTuple):
    """A candidate that others continued, or the last one."""

    choice: Choice
    rounds: int  # of training


class Lineage(NamedTuple):
    """Candidates of which each continued the one before, up to the chosen one."""

    steps: tuple[Ancestor, ...]
    longer: bool  # whether the last one was trained for longer in the end


def write(path: Path, candidates: Sequence[Candidate], longer: bool) -> None:
    """Writes the file of a `Lineage`."""
    steps = [
        {"choice": settings.to_json(one.choice), "rounds": one.last.rounds} for one in candidates
    ]
    atomic.write(path, json.dumps({"lineage": steps, "longer": longer}, indent=1))


def read(path: str) -> Lineage:
    """Returns what `write` wrote.

    Raises:
      UserError: there is no such file, or it is another; the error names `search.choice`.
    """
    file = paths.given(path)
    try:
        about = jsons.parse(file.read_bytes())
        steps, longer = about["lineage"], bool(about["longer"])
        found = tuple(Ancestor(settings.from_json(one["choice"]), one["rounds"]) for one in steps)
    except FileNotFoundError as error:
        raise UserError(f"search.choice: {missing(path)}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"search.choice={path} is no choice.json of a search ({type(error).__name__}: {error})"
        ) from error
    if not found or not all(type(one.rounds) is int and one.rounds >= 1 for one in found):
        raise UserError(f"search.choice={path} is no choice.json of a search: it has no rounds")
    return Lineage(found, longer)
