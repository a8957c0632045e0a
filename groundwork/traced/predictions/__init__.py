"""Predictions of a network whose weights stay. Read `predictor` first."""

from groundwork.traced.predictions.by_shape import compiled
from groundwork.traced.predictions.predictor import Predictor, predictor

__all__ = ["Predictor", "compiled", "predictor"]
