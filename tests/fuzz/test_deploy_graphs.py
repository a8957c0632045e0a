"""Random graphs through every engine: what it gives is what numpy gives, or its writer refuses."""

import collections
import importlib.util
import os
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deploy
from deploy import engines, exports, integers
from tests.deploy import in_numpy, onnx_graphs
from tests.fuzz import programs

ENGINES = [
    name
    for name in deploy.ENGINES
    if name != "coreml" and importlib.util.find_spec(engines.engine(name).package)
]


def cases(default):
    return settings(
        max_examples=int(os.environ.get("FUZZ_CASES", default)),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def files(graph, folder, names=ENGINES):
    """Each engine's function of a graph, but of those whose writers refuse it."""
    made = {}
    for engine in names:
        path = or_none(lambda name=engine: exports.write(graph, name, Path(folder) / name)[0])
        if path:
            made[engine] = deploy.load(path, engine)
    return made


def or_none(function, words=""):
    """The result of a function, or None if it refuses in one line that has these words."""
    try:
        return function()
    except ValueError as error:
        why = str(error)
    assert "\n" not in why
    assert words in why
    return None


def listed(found):
    return found if isinstance(found, tuple | list) else (found,)


@cases(50)
@given(programs.graphs())
def test_floats_are_those_of_numpy_or_refused(graph):
    x = np.random.default_rng(1).normal(size=graph.values["input"].shape).astype(np.float32)
    values = in_numpy.values(graph, x)
    size = max(np.abs(v).max() for v in values.values() if v.dtype == np.float64)
    with tempfile.TemporaryDirectory() as folder:
        for engine, run in files(graph, folder).items():
            for name, one in zip(graph.outputs, listed(run(x)), strict=True):
                assert one.shape == values[name].shape, engine
                assert np.abs(one - values[name]).max() <= 1e-5 * size, engine


@cases(25)
@given(programs.functions(), st.sampled_from([(1, 3, 4), (2, 4, 2), (2, 1, 6)]))
def test_functions_of_jax_are_those_of_numpy_or_refused(function, shape):
    _, run = function
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    wanted = run(np, x.astype(np.float64))
    graph = or_none(lambda: deploy.graph(lambda _, x: run(jnp, x), {}, x), "no rule for ")
    if graph is None:
        return
    size = max(np.abs(v).max() for v in in_numpy.values(graph, x).values())
    (ours,) = in_numpy.run(graph, x)
    np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-5 * size)
    with tempfile.TemporaryDirectory() as folder:
        for engine, call in files(graph, folder).items():
            assert np.abs(call(x) - wanted).max() <= 1e-5 * size, engine


OF_INTEGERS = (*programs.IMAGES, *programs.ANY)


def test_integers_are_those_of_the_references():
    """LiteRT within a step of integer-only inference, onnxruntime of the rounded graph."""
    apart = collections.defaultdict(list)

    @cases(60)
    @given(programs.graphs(3, OF_INTEGERS))
    def run(graph):
        rng = np.random.default_rng(3)
        x = rng.normal(size=graph.values["input"].shape).astype(np.float32)
        whole = onnx_graphs.integers(graph, x)
        wanted = {"onnxruntime": in_numpy.run(whole, x)}
        exact = or_none(lambda: integers.run(whole, x), "integer-only inference has no")
        wanted |= {} if exact is None else {"litert": listed(exact)}
        with tempfile.TemporaryDirectory() as folder:
            for engine, call in files(whole, folder, wanted).items():
                found = listed(call(x))
                for name, ours, theirs in zip(whole.outputs, found, wanted[engine], strict=True):
                    steps = np.abs(ours - theirs) / whole.grids[name].scale
                    apart[engine].append(np.ravel(steps))

    run()
    for engine, found in apart.items():
        assert np.mean(np.concatenate(found) < 1.01) >= 0.99, engine
