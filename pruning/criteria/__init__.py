"""Criteria score weights; those with the lowest scores go. Each is called with `Evidence`.

A new criterion is a function in a file of this package and a line in `CRITERIA`.
"""

from pruning.criteria.activations import WANDA
from pruning.criteria.changes import (
    DISTANCE,
    LARGE_FINAL_SAME_SIGN,
    MAGNITUDE_INCREASE,
    MAGNITUDE_INCREASE_SAME_SIGN,
    MOVEMENT,
)
from pruning.criteria.evidence import OF_TRAINING, Criterion, Evidence
from pruning.criteria.flow import SYNFLOW
from pruning.criteria.gradients import GRASP, OBD, SNIP, TAYLOR
from pruning.criteria.second_order import OBS
from pruning.criteria.weights import L1, L2, LAMP, MAGNITUDE, RANDOM, magnitude, random

CRITERIA: dict[str, Criterion] = {
    "magnitude": MAGNITUDE,
    "l1": L1,
    "l2": L2,
    "lamp": LAMP,
    "random": RANDOM,
    "magnitude_increase": MAGNITUDE_INCREASE,
    "magnitude_increase_same_sign": MAGNITUDE_INCREASE_SAME_SIGN,
    "large_final_same_sign": LARGE_FINAL_SAME_SIGN,
    "distance": DISTANCE,
    "movement": MOVEMENT,
    "snip": SNIP,
    "taylor": TAYLOR,
    "grasp": GRASP,
    "obd": OBD,
    "synflow": SYNFLOW,
    "wanda": WANDA,
    "obs": OBS,
}

__all__ = ["CRITERIA", "OF_TRAINING", "Criterion", "Evidence", "magnitude", "random"]
