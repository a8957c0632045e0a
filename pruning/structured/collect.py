"""The groups that a walk has found, and why all else stays."""

# U units of a group

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pruning.structured.forest import FIXED, Forest
from pruning.structured.graph import Group, Member, layer_of
from pruning.structured.program import Program
from pruning.structured.walk import Walk

UNUSED = "nothing uses it"


def collect(
    walk: Walk, traced: Program, axes: Mapping[str, list[np.ndarray]]
) -> tuple[tuple[Group, ...], dict[str, str]]:
    """Returns the groups, and why all else stays."""
    used = _used(traced)
    entries: dict[int, dict[tuple[str, int], list[int]]] = {}
    frozen: dict[str, str] = {}
    for path, given in axes.items():
        for axis, ids in enumerate(given):
            if path not in used:
                frozen[f"{path} {axis}"] = UNUSED
                continue
            classes = walk.forest.classes(ids)
            for position, unit in enumerate(classes.tolist()):
                if unit != FIXED:
                    entries.setdefault(unit, {}).setdefault((path, axis), []).append(position)
            if (why := _why(walk.forest, ids, classes)) and len(ids) > 1:
                frozen[f"{path} {axis}"] = why
    alike: dict[Any, list[int]] = {}
    for unit, members in entries.items():
        alike.setdefault(tuple((key, len(p)) for key, p in members.items()), []).append(unit)
    made = [_group(walk, axes, units, entries) for units in alike.values()]
    made.sort(key=lambda pair: pair[0])
    return tuple(_renamed([group for _, group in made])), frozen


def most(frozen: Mapping[str, str]) -> str:
    """Returns the reason that most axes have."""
    reasons = collections.Counter(frozen.values())
    return reasons.most_common(1)[0][0] if reasons else "it has no variables"


def _group(
    walk: Walk, axes: Mapping[str, list[np.ndarray]], units: list[int], entries: Mapping[int, Any]
) -> tuple[int, Group]:
    """Returns a group, and the number of the equation that is the first to use it."""
    assert walk.first is not None
    members = tuple(
        Member(path, axis, np.array([entries[unit][path, axis] for unit in units]))
        for path, axis in entries[units[0]]
    )
    uses = [int(walk.first[axes[m.path][m.axis][m.positions[0]]].min()) for m in members]
    group = Group(
        name=layer_of(members[uses.index(min(uses))].path),
        units=len(units),
        members=members,
        doubt=next((walk.inexact[unit] for unit in units if unit in walk.inexact), ""),
        ids=np.array(units),
    )
    return min(uses), group


def _renamed(found: Sequence[Group]) -> list[Group]:
    """Returns groups of different names: of several of one layer, "qkv", "qkv:2", ..."""
    seen: dict[str, int] = {}
    renamed = []
    for group in found:
        seen[group.name] = number = seen.get(group.name, 0) + 1
        name = group.name if number == 1 else f"{group.name}:{number}"
        renamed.append(dataclasses.replace(group, name=name))
    return renamed


def _why(forest: Forest, ids: np.ndarray, classes: np.ndarray) -> str:
    stays = ids[classes == FIXED]
    if not stays.size:
        return ""
    why = forest.reason(int(stays[0]))
    return why if len(stays) == len(ids) else f"{len(stays)} of {len(ids)} entries: {why}"


def _used(traced: Program) -> set[str]:
    """Returns the paths of the variables that an equation reads."""
    jaxpr = traced.closed.jaxpr
    read = {id(v) for equation in jaxpr.eqns for v in equation.invars}
    return {p for p, v in zip(traced.paths, jaxpr.invars, strict=True) if p and id(v) in read}
