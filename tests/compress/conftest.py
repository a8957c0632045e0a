"""Archives to damage and to forge, and what loads them under bounds."""

import functools
import time
import tracemalloc

import jax
import numpy as np
import pytest

import compress
from compress import form as form_lib
from compress import quantize, share
from groundwork import architectures
from groundwork.errors import UserError
from tests.compress import archives
from tests.groundwork.architectures import small

TRACING = 1 << 20  # bytes that JAX may take to trace another network; the honest one is small
SECONDS = 2.0  # that no load may take; an honest one takes some milliseconds
KMEANS, UNIFORM, TERNARY = (
    lambda w: archives.shared(w, 4, archives.pruned(w, 0.1)),
    lambda w: quantize.uniform(w, 5, axis=1),
    quantize.ternary,
)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The bytes of an archive with every form in it, and its variables."""
    model = architectures.build(small.section("lenet_300_100", 0.2), 10)
    variables = archives.drawn(model, (784,))
    path = tmp_path_factory.mktemp("honest") / "a"
    compress.save(path, model, archives.stored(variables, [KMEANS, UNIFORM, TERNARY]))
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """The bytes of an archive of tied layers, some rounded, and its variables."""
    model = architectures.build(small.section("residual_mlp", 0.04), 3)  # 20 hidden units
    groups, bits = [("fc1", "fc2")], {"fc2": 8, "output": 5}
    variables = archives.drawn(model, (20,))
    variables = {"params": share.tie(variables["params"], groups)}
    inputs = np.random.default_rng(0).normal(size=(4, 20)).astype("f4")
    grids = form_lib.calibrated(form_lib.Form(model, groups=groups), variables, inputs, bits)
    path = tmp_path_factory.mktemp("formed") / "a"
    stored = archives.stored(variables, [KMEANS, UNIFORM]) | {"activations": grids}
    compress.save(path, model, stored, groups=groups, activations=bits)
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture
def loaded(tmp_path, monkeypatch, honest):
    """Load bytes: what came of it, and the peak of memory beside the honest one's."""
    monkeypatch.setattr(architectures, "shapes", functools.cache(architectures.shapes))

    def peak_of(data):
        (tmp_path / "a").write_bytes(data)
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.monotonic()
        try:
            found = compress.load(tmp_path / "a")[1]
        except UserError as error:
            found = str(error)
        assert time.monotonic() - began < SECONDS
        return found, tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    usual = max(peak_of(honest[0])[1], peak_of(honest[0])[1])

    def load(data):
        found, peak = peak_of(data)
        assert peak <= 2 * usual + TRACING, f"{peak} bytes, {usual} for the honest file"
        if isinstance(found, str):
            assert found.startswith(f"cannot load {tmp_path / 'a'}: ")
            assert found.isprintable()
            assert len(found) < 600
            return found.removeprefix(f"cannot load {tmp_path / 'a'}: ")
        return found

    yield load
    tracemalloc.stop()
