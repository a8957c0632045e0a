"""Multi-scale dense networks: several exits, and as much computation as each image deserves."""

from msdnet import exits
from msdnet.cost import Cost, costs, parameters
from msdnet.early_exit import Predictions, predict
from msdnet.model import MSDNet

__all__ = ["Cost", "MSDNet", "Predictions", "costs", "exits", "parameters", "predict"]
