"""Units that go in the middle of a pipeline."""

import jax
import numpy as np
import pytest

import compress
from compress import work
from compress.stages import structured
from groundwork.errors import UserError
from tests.compress import small


def test_a_run_takes_units_and_quantises_what_is_left(tmp_path):
    text = small.run(
        tmp_path / "run",
        "--config.stages=('structured','quantize')",
        "--config.structured.ratio=(0.5,)",
        "--config.structured.compensate=true",
    )
    files = tmp_path / "run" / "files" / "structured-0.5+quantize-3"
    networks = [compress.load(files / f"{r}.cna") for r in range(2)]
    shapes = [jax.tree.map(np.shape, variables["params"]) for _, variables in networks]
    assert shapes[0] == shapes[1]
    widths = [shapes[0][layer]["kernel"] for layer in ("fc1", "fc2", "output")]
    assert widths == [(64, 15), (15, 5), (5, 10)]
    kept = [apply.__self__.keep for apply, _ in networks]
    assert any((kept[0][name] != kept[1][name]).any() for name in kept[0])
    assert "structured-0.5+quantize-3" in text


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"structured": {"ratio": ()}}, "structured.ratio=() must be shares"),
        ({"structured": {"ratio": (1.0,)}}, "must lie between 0 and 1"),
        ({"structured": {"criterion": "l3"}}, "unknown structured.criterion 'l3'"),
        ({"stages": ("structured", "prune")}, "prune must come before structured"),
        ({"stages": ("factorize", "structured")}, "takes no units of layers after factorize"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(pipeline, sections, said):
    with pytest.raises(UserError) as caught:
        pipeline(**({"stages": ("structured",)} | sections))
    assert said in str(caught.value)


def test_a_pruned_network_stays_pruned_in_the_units_that_are_left(untrained, pipeline):
    own = pipeline(stages=("structured",), structured={"ratio": (0.5,)})
    before = small.pruned(own, "fc1/kernel", "fc2/kernel")
    made = structured.run(own, small.node("structured", 0.5), before)
    for path, kept in made.mask.items():
        layer, leaf = path.split("/")
        kernel = made.variables["params"][layer][leaf]
        assert kept.shape == kernel.shape
        np.testing.assert_array_equal(kernel != 0, kept)
    assert made.mask["fc1/kernel"].shape[2] < before.mask["fc1/kernel"].shape[2]
    assert len(untrained) == 1
    for replicate in (0, 1):
        one = work.of_replicate(made.form.model, replicate)
        assert all(units.ndim == 1 for units in one.keep.values())
