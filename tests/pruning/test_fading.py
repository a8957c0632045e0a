"""Growing regularisation in the command: which entries fade, and how fast."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import config as config_lib
from pruning import fading, results, spec
from tests.pruning import tiny

GROWING = (
    "--config.sparsity.penalty=growing",
    "--config.sparsity.weight=0.5",
    "--config.sparsity.step=0.2",
    "--config.sparsity.every=2",
    "--config.sparsity.steps=40",
    "--config.fine_tune_optimizer.name=sgd",
    "--config.fine_tune_optimizer.learning_rate=0.3",
)


def test_each_replicate_lets_its_own_entries_decay_faster_and_faster():
    """Against a loop in numpy: w ← w − lr (g + λ w where it fades), with λ = 0.2, 0.2, 0.4, …"""
    config, _ = config_lib.parse(tiny.argv("unused", *GROWING), "")
    experiment = SimpleNamespace(spec=spec.from_config(config_lib.resolve(config)))
    draw = np.random.default_rng(0)
    weights, gradient = draw.normal(size=(2, 3, 2)), draw.normal(size=(3, 2))
    gone = draw.random((2, 3, 2)) < 0.5
    optimizer = fading.growing(experiment, None)

    def trained(weights, gone):
        params = {"w": weights}
        state = fading.growing(experiment, {"w": gone}).init(params)
        for step in range(6):
            updates, state = optimizer.update(
                {"w": jnp.asarray(gradient, jnp.float32)}, state, params, step=jnp.int32(step)
            )
            params = jax.tree.map(jnp.add, params, updates)
        return params["w"]

    ours = jax.vmap(trained)(jnp.asarray(weights, jnp.float32), jnp.asarray(gone))
    expected = weights
    for growth in (0.2, 0.2, 0.4, 0.4, 0.5, 0.5):
        expected = expected - 0.3 * (gradient + growth * np.where(gone, expected, 0))
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.slow
def test_units_vanish_before_they_go_and_others_do_not(tmp_path, monkeypatch):
    tiny.leave_untrained(monkeypatch)
    tiny.train(tmp_path / "run", *GROWING)
    units = ("original", "faded/0.5/1", "pruned/0.5")
    start, faded, small = (results.load(tmp_path / "run", unit)["params"] for unit in units)
    keep = results.result_of(tmp_path / "run", "plans/0.5/1")
    for r in range(2):
        kept = np.asarray(keep["fc1"][r], bool)
        norms = [np.linalg.norm(p["fc1"]["kernel"][r], axis=0) for p in (start, faded)]
        assert (norms[1][~kept] < 0.1 * norms[0][~kept]).all()
        assert (norms[1][kept] > 0.5 * norms[0][kept]).all()
        cut = faded["fc1"]["kernel"][r][:, kept]
        np.testing.assert_array_equal(small["fc1"]["kernel"][r], cut)


def test_what_it_needs_is_said():
    with pytest.raises(spec.UserError, match=r"sparsity\.step=0\.0 must be above 0"):
        dataclasses.replace(SPARSITY, step=0.0)
    with pytest.raises(spec.UserError, match=r"needs a sparsity\.weight above 0"):
        dataclasses.replace(SPARSITY, weight=0.0)
    with pytest.raises(spec.UserError, match=r"sparsity\.every=0 must be at least 1"):
        dataclasses.replace(SPARSITY, every=0)


SPARSITY = spec.SparsitySpec("growing", weight=1.0, step=1e-4, every=10, steps=400)
