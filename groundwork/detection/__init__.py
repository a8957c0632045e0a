"""Objects in images: boxes, anchors, the loss of SqueezeDet, what is detected, and how well.

A box is (centre x, centre y, width, height) in pixels, x to the right and y downwards, the image's
corner at (0, 0). The truths of an image are [M, 5]: such a box, of positive width and height, and
its class; a class of −1 says that there is no object. Read `loss.losses` and `found.detections`
first.

A network's outputs are [B, A, 5 + C], the A anchors in the order of `Grid.anchors`: four changes
of the anchor's box, the logit of the confidence, and the logits of the classes.
"""

from groundwork.detection.anchors import GRIDS, KITTI, SMALL, Grid
from groundwork.detection.boxes import changed, changes, clipped, overlaps
from groundwork.detection.found import Detections, detections
from groundwork.detection.loss import Weights, losses
from groundwork.detection.precision import average_precisions, mean_average_precision
from groundwork.detection.responsible import responsible

__all__ = [
    "GRIDS",
    "KITTI",
    "SMALL",
    "Detections",
    "Grid",
    "Weights",
    "average_precisions",
    "changed",
    "changes",
    "clipped",
    "detections",
    "losses",
    "mean_average_precision",
    "overlaps",
    "responsible",
]
