"""What is known of each primitive; a file for each kind."""

from pruning.structured.rules import (
    control,
    derivatives,
    elementwise,
    indexing,
    products,
    reductions,
    reshapes,
    shapes,
)
from pruning.structured.walk import Rule

RULES: dict[str, Rule] = {
    **control.RULES,
    **derivatives.RULES,
    **elementwise.RULES,
    **indexing.RULES,
    **products.RULES,
    **reductions.RULES,
    **reshapes.RULES,
    **shapes.RULES,
}
