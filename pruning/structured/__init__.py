"""Removes whole units, which makes a network physically smaller."""

from pruning.structured.choice import choose, lowest_go, to_target
from pruning.structured.compensation import least_squares
from pruning.structured.graph import Graph, Group, Member, coupling, groups
from pruning.structured.importance import CRITERIA, Scores, check_criterion, scores
from pruning.structured.merging import merge
from pruning.structured.narrowed import Keep, Narrowed, check, cut, expand, mask, narrow, renewed
from pruning.structured.penalties import PENALTIES, growing, penalty

__all__ = [
    "CRITERIA",
    "PENALTIES",
    "Graph",
    "Group",
    "Keep",
    "Member",
    "Narrowed",
    "Scores",
    "check",
    "check_criterion",
    "choose",
    "coupling",
    "cut",
    "expand",
    "groups",
    "growing",
    "least_squares",
    "lowest_go",
    "mask",
    "merge",
    "narrow",
    "penalty",
    "renewed",
    "scores",
    "to_target",
]
