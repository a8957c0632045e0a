"""Archives to damage and to forge, what loads them under bounds; pipelines of small networks."""

import functools
import time
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import compress
from compress import fit, quantize, share, spec, work
from compress import form as form_lib
from compress.made import Pipeline
from groundwork import architectures, study
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.interruption import Interruption
from groundwork.errors import UserError
from groundwork.runs.run import Run
from groundwork.train import networks
from tests.compress import archives, small
from tests.groundwork.architectures.small import section

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
    model = architectures.build(section("lenet_300_100", 0.2), 10)
    variables = archives.drawn(model, (784,))
    path = tmp_path_factory.mktemp("honest") / "a"
    compress.save(path, model, archives.stored(variables, [KMEANS, UNIFORM, TERNARY]))
    return path.read_bytes(), jax.tree.map(np.asarray, compress.load(path)[1])


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """The bytes of an archive of tied layers, some rounded, and its variables."""
    model = architectures.build(section("residual_mlp", 0.04), 3)  # 20 hidden units
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
            result = compress.load(tmp_path / "a")[1]
        except UserError as error:
            result = str(error)
        assert time.monotonic() - began < SECONDS
        return result, tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    usual = max(peak_of(honest[0])[1], peak_of(honest[0])[1])

    def load(data):
        result, peak = peak_of(data)
        assert peak <= 2 * usual + TRACING, f"{peak} bytes, {usual} for the honest file"
        if isinstance(result, str):
            assert result.startswith(f"cannot load {tmp_path / 'a'}: ")
            assert result.isprintable()
            assert len(result) < 600
            return result.removeprefix(f"cannot load {tmp_path / 'a'}: ")
        return result

    yield load
    tracemalloc.stop()


@pytest.fixture
def pipeline(tmp_path) -> Callable[..., Pipeline]:
    """Makes one of a config's sections, which are checked: two replicates on two devices."""

    def build(model: str = "lenet_300_100", width: float = 0.05, **sections) -> Pipeline:
        named = {"name": model, "width": width, "dtype": "float32"}
        config = small.config(model=named, replicates=2, **sections)
        checked, dataset = spec.from_config(config), data_lib.load(config)
        work.prepare(checked, config, dataset)
        mesh = mesh_lib.make(2, 100, replicate=2, data=1)
        context = study.make_context(checked, dataset, mesh, Run(tmp_path), None, Interruption())
        return Pipeline(
            context=context,
            spec=checked,
            model=architectures.build(config, dataset.classes),
            compiled=fit.compiler(context),
        )

    return build


@pytest.fixture
def untrained(monkeypatch) -> list[SimpleNamespace]:
    """Every training gives back what it was given, and nothing is compiled; what it was given."""
    seen = []

    def compiled(recipe):
        def start(variables, mask):
            seen.append(SimpleNamespace(recipe=recipe, variables=variables, mask=mask))
            return variables

        return fit.Compiled(recipe, start)

    def train(context, recipe, unit, steps, variables):
        assert (recipe, steps) == (seen[-1].recipe, recipe.steps.steps)
        seen[-1].unit = unit.name
        return variables

    monkeypatch.setattr(fit, "compiler", lambda context: compiled)
    monkeypatch.setattr(networks, "train", train)
    return seen
