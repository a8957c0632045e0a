"""When to stop: confidences, thresholds for a budget, and the curves that they give.

Read `thresholds` first. Source: Huang et al., arXiv:1703.09844, Section 3 (the two settings) and
Section 5.2 (exit probabilities and thresholds).
"""

from msdnet.exits.budget import (
    LEAST_EXAMPLES,
    for_shares,
    route,
    shares,
    thresholds,
)
from msdnet.exits.checks import numbers
from msdnet.exits.checks import thresholds as check_thresholds
from msdnet.exits.confidences import CONFIDENCES, confidence
from msdnet.exits.curves import RATIOS, Outcome, anytime, area, budgeted, outcome

__all__ = [
    "CONFIDENCES",
    "LEAST_EXAMPLES",
    "RATIOS",
    "Outcome",
    "anytime",
    "area",
    "budgeted",
    "check_thresholds",
    "confidence",
    "for_shares",
    "numbers",
    "outcome",
    "route",
    "shares",
    "thresholds",
]
