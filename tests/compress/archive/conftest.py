"""Archives to read, to damage and to forge, and a loader that keeps to its bounds."""

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

TRACING = 1 << 20  # bytes that JAX may take to trace another network; the honest one is small
SECONDS = 2.0  # that no load may take; an honest one takes some milliseconds
KMEANS, KEPT, UNIFORM, TERNARY = (
    lambda w: archives.shared(w, 4, archives.pruned(w, 0.1)),
    lambda w: archives.shared(w, 3, np.asarray(w) != 0),
    lambda w: quantize.uniform(w, 5, axis=1),
    quantize.ternary,
)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """Name of a network → the module, its variables with kernels of all schemes, their archive."""

    @functools.cache
    def saved(name):
        model, variables = archives.network(name)
        stored = archives.stored(variables, archives.SCHEMES.values())
        path = tmp_path_factory.mktemp(name) / "a"
        compress.save(path, model, stored)
        return model, stored, path

    return saved


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The bytes of an archive with every form in it, and its variables."""
    model = architectures.build({"name": "lenet_300_100", "width": 0.2}, 10)
    variables = archives.drawn(model, (784,))
    path = tmp_path_factory.mktemp("honest") / "a"
    compress.save(path, model, archives.stored(variables, [KMEANS, UNIFORM, TERNARY]))
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """The bytes of an archive with arrays coded by what is near each entry, and its variables."""
    model = architectures.build({"name": "lenet_300_100", "width": 0.1}, 10)
    variables = archives.drawn(model, (100,))
    rng, kernel = np.random.default_rng(0), variables["params"]["fc1"]["kernel"]
    kernel[rng.random(kernel.shape) > 0.3 * (np.arange(30) % 3 == 0)] = 0
    path = tmp_path_factory.mktemp("adaptive") / "a"
    compress.save(path, model, archives.stored(variables, [KEPT, UNIFORM, TERNARY]))
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """The bytes of an archive of tied layers, some with rounded inputs, and its variables."""
    model = architectures.build({"name": "residual_mlp", "width": 0.04}, 3)  # 20 hidden units
    groups, bits = [("fc1", "fc2")], {"fc2": 8, "output": 5}
    variables = archives.drawn(model, (20,))
    variables = {"params": share.tie(variables["params"], groups)}
    inputs = np.random.default_rng(0).normal(size=(3, 20)).astype("f4")
    grids = form_lib.calibrated(form_lib.Form(model, groups=groups), variables, inputs, bits)
    path = tmp_path_factory.mktemp("formed") / "a"
    stored = archives.stored(variables, [KMEANS, UNIFORM]) | {"activations": grids}
    compress.save(path, model, stored, groups=groups, activations=bits)
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture
def loaded(tmp_path, monkeypatch, honest):
    """Loads bytes, in bounded time and memory: the variables, or the message of the refusal."""
    monkeypatch.setattr(architectures, "shapes", functools.cache(architectures.shapes))

    def measured(data):
        """The outcome, and the peak of memory."""
        (tmp_path / "a").write_bytes(data)
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            outcome = compress.load(tmp_path / "a")[1]
        except UserError as error:
            outcome = str(error)
        assert time.process_time() - began < SECONDS
        return outcome, tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    usual = max(measured(honest[0])[1], measured(honest[0])[1])

    def load(data):
        outcome, peak = measured(data)
        assert peak <= 2 * usual + TRACING, f"{peak} bytes, {usual} for the honest file"
        if isinstance(outcome, str):
            assert outcome.startswith(f"cannot load {tmp_path / 'a'}: ")
            assert outcome.isprintable()
            assert len(outcome) < 600
            return outcome.removeprefix(f"cannot load {tmp_path / 'a'}: ")
        return outcome

    yield load
    tracemalloc.stop()
