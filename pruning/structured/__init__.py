"""Removes whole units, which makes a network physically smaller."""

from pruning.structured.choice import Ratio, choose, lowest_go, to_target
from pruning.structured.compensation import least_squares
from pruning.structured.graph import Graph, Group, Member, coupling
from pruning.structured.grouping import groups
from pruning.structured.importance import CRITERIA, LOOKS, Scores, check_criterion, scores
from pruning.structured.kept import Keep, check, cut, expand, mask, renewed
from pruning.structured.merging import merge
from pruning.structured.narrowed import Narrowed, narrow
from pruning.structured.penalties import PENALTIES, growing, penalty
from pruning.structured.shape import to_shape

__all__ = [
    "CRITERIA",
    "LOOKS",
    "PENALTIES",
    "Graph",
    "Group",
    "Keep",
    "Member",
    "Narrowed",
    "Ratio",
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
    "to_shape",
    "to_target",
]
