"""How networks are trained in a stage: for how long, by what, and by whom."""

import pytest

from compress.stages.all_stages import STAGES
from tests.compress.small import GROUPS, dense, node

TRAININGS = {  # stage, its setting, what else the config says
    "share": ("share", 0, {"share": {"groups": GROUPS}}),
    "factorize": ("factorize", 0.5, {"factorize": {"method": "svd"}}),
    "prune": ("prune", 1, {"prune": {"rewind": "none"}}),
    "quantize": ("quantize", 0, {"quantize": {"method": "binary"}}),
    "rewound": ("prune", 1, {}),
    "student": ("distill", 0, {}),
    "kept student": ("distill", 0, {"distill": {"init": "keep"}}),
}
AS_LONG_AS_THE_ORIGINAL = ("rewound", "student", "kept student")


@pytest.mark.parametrize("case", TRAININGS)
def test_stages_are_trained_as_the_config_says(case, untrained, pipeline):
    stage, setting, sections = TRAININGS[case]
    tuned = case not in AS_LONG_AS_THE_ORIGINAL
    during = {"distill": {"during": (stage,)}} if stage != "distill" else {}
    own = pipeline("residual_mlp", 0.128, stages=(stage,), **during, **sections)
    before = dense(own)
    STAGES[stage].run(own, node(stage, setting), before)
    (training,) = untrained
    assert training.unit == f"networks/{stage}"
    recipe = training.recipe
    assert recipe.taught.before == before.form
    assert recipe.steps == (own.spec.fine_tune if tuned else own.spec.train)
    optimizers = own.spec.optimizer, own.spec.fine_tune_optimizer
    assert recipe.optimizer == optimizers[tuned] != optimizers[not tuned]
    assert (recipe.quantizer is not None) == (stage == "quantize")
