"""Predictions of a network whose weights stay. Read `predictor` first."""

from groundwork.traced.predictions.predictor import Predictor, predictor

__all__ = ["Predictor", "predictor"]
