"""The networks of runs of every command, of files, and of a user's own."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress
from compress import quantize
from deploy import files
from deploy.graphs import trace
from deploy.sources import networks
from deploy.sources.network import Network
from deploy.sources.networks import TRAINED, Source
from groundwork import architectures, trees
from groundwork import config as config_lib
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from groundwork.runs import run as run_lib
from groundwork.runs import trained
from groundwork.runs.identity import Identity
from lowrank import factorization
from pruning import structured

CONFIG = config_lib.resolve(config_lib.load("configs/deploy/base.py"))
SECTION = {"width": 0.25, "blocks": [1]}
MODEL = {"name": "lenet_300_100", "width": 0.05, "dtype": "float32", "kwargs": {}, "call": {}}
INPUTS = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype("f4")


@pytest.fixture(scope="module")
def dataset():
    return data_lib.load(CONFIG["data"])


@pytest.fixture(scope="module")
def model():
    return architectures.build(MODEL, 10)


@pytest.fixture(scope="module")
def variables(model):
    """Of two replicates, [2, …]."""
    one = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    return jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), one)


def _run(folder, command, units, **more):
    """Writes a run with these units: name → tree, metadata."""
    config = {**CONFIG, "model": MODEL, "replicates": 2, **more}
    run, _ = run_lib.open_run(folder, Identity(command=command, config=config))
    for name, (tree, metadata) in units.items():
        run.unit(name).finish(tree, metadata)
    return str(folder)


def _outputs(network):
    return trace.evaluation(network.model)(network.variables, INPUTS)


def _whole(model, variables, replicate):
    return model.apply(trees.replicate(variables, replicate), INPUTS, train=False)


def _load(source, name, dataset):
    return networks.load(source, name, {"model": MODEL}, dataset)


def test_the_last_ticket_is_that_of_a_lottery(tmp_path, model, variables, dataset):
    first = jax.tree.map(np.zeros_like, variables)
    units = {f"levels/{n:02d}/ticket": ([first, variables], {}) for n in (0, 1)}
    units["levels/01/random_mask"] = ({"variables": variables}, {})
    path = _run(tmp_path / "run", "lottery", units)
    assert networks.names(Source(path)) == ["levels/01/ticket"]
    assert networks.names(Source(path, "levels/00/*")) == ["levels/00/ticket"]
    network = _load(Source(path, "", 1), "levels/01/ticket", dataset)
    np.testing.assert_allclose(_outputs(network), _whole(model, variables, 1), atol=1e-6)
    with pytest.raises(UserError, match=r"has 2 replicates: set source\.replicate below it"):
        _load(Source(path, "", 2), "levels/01/ticket", dataset)
    with pytest.raises(UserError, match=r"^source.unit: .*no finished network that is 'x'"):
        networks.names(Source(path, "x"))


def test_pruned_networks_are_narrow(tmp_path, model, variables, dataset):
    whole = trees.replicate(variables, 0)
    graph = structured.groups(model, whole, dataset.example)
    keep = {g.name: np.arange(g.units) % 3 > 0 for g in graph.groups}
    narrow, small = structured.narrow(graph, whole, keep)
    units = {
        "original": ({"variables": variables}, {}),
        "plans/0.5/1": ({name: np.stack([k, k]) for name, k in keep.items()}, {}),
        "pruned/0.5": ({"variables": trees.stack([small, small])}, {}),
        "scratch_e/0.5": ({"variables": trees.stack([small, small])}, {}),
    }
    prune = {"ignored": list(graph.ignored), "split": graph.split}
    path = _run(tmp_path / "run", "pruning", units, prune=prune)
    assert networks.names(Source(path)) == ["original", "pruned/0.5"]
    assert networks.names(Source(path, "scratch*")) == ["scratch_e/0.5"]
    network = _load(Source(path), "pruned/0.5", dataset)
    np.testing.assert_allclose(_outputs(network), narrow.apply(small, INPUTS, train=False))
    original = _load(Source(path), "original", dataset)
    np.testing.assert_allclose(_outputs(original), _whole(model, variables, 0), atol=1e-6)


def test_low_rank_networks_have_their_plan(tmp_path, model, variables, dataset):
    plan = {"fc1": {"method": "svd", "rank": 2}}
    apply, changed = factorization.factorize(
        model, trees.replicate(variables, 0), plan, INPUTS, train=False
    )
    units = {
        "original": ({"variables": variables}, {}),
        "plans/svd-0.5": ({"share": np.array(0.5)}, {"plan": plan}),
        "sweep/svd-0.5": ({"variables": trees.stack([changed, changed])}, {}),
    }
    path = _run(tmp_path / "run", "lowrank", units)
    assert networks.names(Source(path)) == ["original", "sweep/svd-0.5"]
    network = _load(Source(path), "sweep/svd-0.5", dataset)
    assert network.model.plan == plan
    expected = apply(changed, INPUTS, train=False)
    np.testing.assert_allclose(_outputs(network), expected, atol=1e-6)


def test_networks_with_exits_are_built_by_their_own_section(tmp_path, dataset):
    model = networks.msdnet_networks.build("resnets", SECTION, 10)
    shapes = architectures.shapes(model, dataset.example)
    zeros = jax.tree.map(lambda leaf: np.zeros((1, *leaf.shape), leaf.dtype), shapes)
    units = {"networks/resnets": ({"variables": zeros}, {})}
    path = _run(tmp_path / "run", "msdnet", units, resnets=SECTION)
    network = _load(Source(path), "networks/resnets", dataset)
    assert network.model == model
    assert jax.tree.structure(network.variables) == jax.tree.structure(zeros)


def test_compressed_networks_bring_their_integers(tmp_path, model, variables, dataset):
    one = trees.replicate(variables, 0)
    stored = jax.tree.map(jnp.asarray, one)
    by_four = quantize.uniform(one["params"]["fc1"]["kernel"], 4, axis=1)
    stored["params"]["fc1"]["kernel"] = by_four
    stored["params"]["fc2"]["kernel"] = 0.3 * np.sign(one["params"]["fc2"]["kernel"])
    leaf = {"original": True, "prune-2": False, "prune-2+quantize-4": True}
    units = {f"networks/{name}": ({"done": np.ones(1)}, {"leaf": it}) for name, it in leaf.items()}
    path = _run(tmp_path / "run", "compress", units)
    file = tmp_path / "run/files/prune-2+quantize-4/0.cna"
    file.parent.mkdir(parents=True)
    compress.save(file, model, stored)
    source, name = Source(path), "networks/prune-2+quantize-4"
    assert networks.names(source) == ["networks/original", name]
    network = _load(source, name, dataset)
    plain = quantize.materialize(stored)
    expected = model.apply(plain, INPUTS, train=False)
    np.testing.assert_allclose(_outputs(network), expected, atol=1e-6)
    assert set(network.stored) == {"fc1/kernel"}
    codes, scales = network.stored["fc1/kernel"]
    np.testing.assert_array_equal(codes, by_four.values)
    np.testing.assert_allclose(scales, np.ravel(by_four.scale))
    assert re.match("fc2/kernel: the file has codebooks", network.remarks[0])
    alone = _load(Source(str(file)), "0", dataset)
    np.testing.assert_array_equal(alone.stored["fc1/kernel"].codes, codes)
    assert networks.section(str(file))["model"] == MODEL


def test_the_original_and_the_last_choice_of_a_search_are_read(tmp_path, model, variables, dataset):
    one = trees.replicate(variables, 0)
    names = ("networks/original", "chosen/0005", "chosen/0010")
    units = {name: ({"done": np.ones(1)}, {}) for name in names}
    path = _run(tmp_path / "run", "compress.search", units)
    file = tmp_path / "run/files/chosen/0.cna"
    file.parent.mkdir(parents=True)
    compress.save(file, model, one)
    source = Source(path)
    assert networks.names(source) == ["networks/original", "chosen/0010"]
    network = _load(source, "chosen/0010", dataset)
    np.testing.assert_allclose(_outputs(network), _whole(model, variables, 0), atol=1e-6)


def test_a_network_for_other_examples_is_refused_in_one_line(tmp_path, variables, dataset):
    path = tmp_path / "weights.cna"
    compress.save(path, architectures.build(MODEL, 10), trees.replicate(variables, 0))
    wider = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((1, 32, 32, 1), leaf.dtype), dataset.example
    )
    other = SimpleNamespace(example=wider, classes=10)
    said = r"weights does not take the data's examples \(32, 32, 1\) \(data.pad"
    with pytest.raises(UserError, match=said):
        networks.load(Source(str(path)), "weights", {"model": MODEL}, other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_network_of_bfloat16_is_known(dtype, variables, dataset):
    model = architectures.build({**MODEL, "dtype": dtype}, 10)
    network = Network(model=model, variables=trees.replicate(variables, 0))
    assert files.is_rounded(network, dataset.example) == (dtype == "bfloat16")


def test_a_file_of_weights_is_the_configs_network(tmp_path, model, variables, dataset):
    path = tmp_path / "weights.npz"
    trained.save(path, trees.replicate(variables, 0))
    assert networks.names(Source(str(path))) == ["weights"]
    network = _load(Source(str(path)), "weights", dataset)
    np.testing.assert_allclose(_outputs(network), _whole(model, variables, 0), atol=1e-6)
    assert networks.section(str(path)) is None
    assert networks.names(Source("")) == [TRAINED]


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^source.path: .*nowhere does not exist$"):
        networks.names(Source(str(tmp_path / "nowhere")))
    path = _run(tmp_path / "run", "launch", {})
    with pytest.raises(UserError, match=r"is a run of launch, not of lottery, pruning"):
        networks.names(Source(path))
