"""Removes whole units, which makes a network physically smaller."""

from pruning.structured.choice import choose, to_target
from pruning.structured.compensation import least_squares
from pruning.structured.graph import Graph, Group, Member, groups
from pruning.structured.importance import CRITERIA, scores
from pruning.structured.narrowed import Keep, Narrowed, cut, mask, narrow

__all__ = [
    "CRITERIA",
    "Graph",
    "Group",
    "Keep",
    "Member",
    "Narrowed",
    "choose",
    "cut",
    "groups",
    "least_squares",
    "mask",
    "narrow",
    "scores",
    "to_target",
]
