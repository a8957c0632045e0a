"""The command over single weights, end to end, on a tiny network."""

import itertools
import shutil

import jax
import numpy as np
import pytest

from configs import base
from groundwork import keys
from groundwork.architectures import pretrained
from groundwork.architectures.pretrained import conversion, families
from groundwork.data import dataset as data_lib
from groundwork.devices.interruption import Interrupted, Interruption
from groundwork.errors import UserError
from groundwork.runs import metrics
from groundwork.runs.run import Run
from groundwork.train import programs
from pruning import densities, masks, select
from pruning.criteria import CRITERIA, Criterion, random
from pruning.weights import results
from tests import browser
from tests.lottery.small import assert_same_tree
from tests.pruning.weights import small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def one_shot(tmp_path_factory):
    """Two densities by magnitude, as a user runs it: the folder, and what was printed."""
    folder = tmp_path_factory.mktemp("weights") / "run"
    return folder, small.run(folder, density=(0.3, 0.1))


def kept(mask):
    return {path: leaf.reshape(len(leaf), -1).sum(1).tolist() for path, leaf in mask.items()}


def accuracies(variables):
    """Test accuracies of LeNet-300-100's variables [R, …], in NumPy."""
    data = data_lib.load({"data": base.get_config().data.to_dict()})
    inputs = np.asarray(data_lib.normalize(data, data.test.inputs)).reshape(
        len(data.test.labels), -1
    )
    found = []
    for r in range(2):
        layers = jax.tree.map(lambda leaf, r=r: leaf[r], variables["params"])
        hidden = inputs
        for name in ("fc1", "fc2"):
            hidden = np.maximum(hidden @ layers[name]["kernel"] + layers[name]["bias"], 0)
        logits = hidden @ layers["output"]["kernel"] + layers["output"]["bias"]
        found.append(np.mean(logits.argmax(-1) == data.test.labels))
    return found


def assert_zero_where_pruned(mask, variables):
    for path, leaf in masks.flatten(variables["params"], mask.__contains__).items():
        assert not np.any(leaf[~mask[path]]), path


def test_one_shot_keeps_the_largest_weights_of_the_dense_network(one_shot, chromium):
    folder, printed = one_shot
    assert Run(folder).units() == ["dense", "sparse/0.1", "sparse/0.3"]
    _, dense = results.load(folder, "dense")
    mask, sparse = results.load(folder, "sparse/0.1")
    assert_zero_where_pruned(mask, sparse)
    for path, leaf in masks.flatten(dense["params"]).items():
        for r in range(2):
            count = round(0.1 * leaf[r].size)
            largest = np.sort(np.abs(leaf[r]), axis=None)[-count:]
            np.testing.assert_array_equal(
                np.sort(np.abs(leaf[r])[mask[path][r]], axis=None), largest
            )
    run = results.read(folder)
    assert [network.label for network in run.sparse] == ["0.3", "0.1"]
    assert [network.steps for network in (run.dense, *run.sparse)] == [40, 60, 60]
    assert all(network.seconds > 0 for network in run.sparse)
    assert "0.1000" in printed
    assert (folder / "report.html").read_text().count("</figure>") == 2
    browser.check(chromium, folder / "report.html")


def test_the_dense_network_may_come_from_a_file(one_shot, tmp_path, monkeypatch):
    layers = {"fc1": "0", "fc2": "2", "output": "4"}  # of a Sequential with ReLUs between
    monkeypatch.setitem(families.LAYERS, "lenet_300_100", lambda module: layers)
    _, dense = results.load(one_shot[0], "dense")
    first = jax.tree.map(lambda leaf: leaf[0], dense)
    file = tmp_path / "dense.safetensors"
    pretrained.save(file, conversion.to_torch(layers, first))
    small.train(tmp_path / "run", f"--config.source.path={file}")
    mask, found = results.load(tmp_path / "run", "dense")
    assert all(leaf.all() for leaf in mask.values())
    assert_same_tree(found, jax.tree.map(lambda leaf: np.stack([leaf] * 2), first))
    theirs, ours = (results.load(run, "sparse/0.1")[0] for run in (one_shot[0], tmp_path / "run"))
    for path, leaf in theirs.items():
        np.testing.assert_array_equal(ours[path], np.stack([leaf[0]] * 2))
    run = results.read(tmp_path / "run")
    assert [network.steps for network in (run.dense, *run.sparse)] == [0, 20]
    assert run.dense.test == run.dense.before


@pytest.mark.parametrize(
    ("prune", "said"),
    [
        ({"method": "rigl"}, "source.path needs prune.method=one_shot or iterative: rigl trains a"),
        ({"criterion": "movement"}, "prune.criterion=movement looks at what training changed, whi"),
    ],
)
def test_what_only_a_training_tells_is_not_asked_of_a_file(prune, said, tmp_path):
    with pytest.raises(UserError, match=f"^{said}"):
        small.train(tmp_path / "run", "--config.source.path=a.npz", **prune)


def test_the_same_command_shows_it_again_and_more_densities_extend_it(one_shot, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(one_shot[0], folder)
    assert (
        small.run(folder, density=(0.3, 0.1)).split("report:")[0]
        == (one_shot[1].split("report:")[0])
    )
    before = (folder / "metrics.jsonl").read_bytes()
    small.train(folder, density=(0.3, 0.2, 0.1))
    assert [network.label for network in results.read(folder).sparse] == ["0.3", "0.2", "0.1"]
    assert (folder / "metrics.jsonl").read_bytes().startswith(before)


@pytest.fixture(scope="module")
def rigl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "rigl"
    small.train(folder, method="rigl", scope="erdos_renyi_kernel")
    return folder


def test_rigl_keeps_the_counts_of_its_layers_all_the_time(rigl):
    mask, variables = results.load(rigl, "sparse/0.1")
    assert_zero_where_pruned(mask, variables)
    shapes = {path: leaf[0] for path, leaf in mask.items()}
    counts = densities.counts(shapes, densities.erdos_renyi_kernel(shapes, 0.1))
    assert kept(mask) == {path: [count, count] for path, count in counts.items()}
    dense = {path: np.ones(leaf.shape, bool) for path, leaf in shapes.items()}
    for r, root in enumerate(keys.roots(0, 2)):  # the random mask of the start has moved
        key = jax.random.fold_in(keys.stream(root, "criterion"), 0)
        paths = {path: (path,) for path in dense}
        began = select.prune_to(dense, random({}, dense, key=key), counts, paths)
        stayed = sum(np.sum(mask[path][r] & began[path]) for path in dense)
        assert 0.2 < stayed / sum(counts.values()) < 0.9


def test_stopped_right_after_a_change_of_masks_it_goes_on_bit_for_bit(rigl, tmp_path, monkeypatch):
    looks = itertools.count()
    # asked every five steps, as often as masks change, in the second training
    monkeypatch.setattr(Interruption, "reached", lambda self: next(looks) == 12)
    with pytest.raises(Interrupted, match=r"sparse/0\.1, step 20"):
        small.train(tmp_path / "run", method="rigl", scope="erdos_renyi_kernel")
    monkeypatch.undo()
    small.train(tmp_path / "run", method="rigl", scope="erdos_renyi_kernel")
    for mine, whole in zip(
        results.load(tmp_path / "run", "sparse/0.1"), results.load(rigl, "sparse/0.1"), strict=True
    ):
        assert_same_tree(mine, whole)


@pytest.mark.parametrize(
    "prune",
    [
        {"method": "gradual", "scope": "global", "begin": 0.5, "end": 1.0},
        {"method": "set", "scope": "erdos_renyi"},
        {"method": "static"},
        {"method": "before_training", "criterion": "snip", "scope": "global"},
        {"method": "one_shot", "criterion": "movement"},
        {"method": "one_shot", "criterion": "obs", "correct": True, "scope": "global"},
        {"method": "iterative", "iterations": 2},
        {"method": "straight_through", "scope": "global"},
    ],
    ids=lambda prune: "-".join(str(value) for value in prune.values()),
)
def test_each_method_ends_at_its_density(prune, tmp_path, monkeypatch):
    made, make = [], programs.make
    monkeypatch.setattr(
        programs, "make", lambda *args, **more: made.append(1) or make(*args, **more)
    )
    small.train(tmp_path / "run", **prune)
    # a mask is data: where nothing else differs, the dense network's programs train
    assert len(made) == (1 if prune["method"] in ("static", "before_training") else 2)
    mask, variables = results.load(tmp_path / "run", "sparse/0.1")
    assert_zero_where_pruned(mask, variables)
    (network,) = results.read(tmp_path / "run").sparse
    written = [row for row in metrics.read(Run(tmp_path / "run").metrics) if "split" in row]
    said = {row["unit"]: row.get("density") for row in written}
    assert said["dense"] == 1
    assert said["sparse/0.1"] in (None, network.density[0])  # where it changes, rows do not tell
    np.testing.assert_allclose(network.test, accuracies(variables), atol=0.01)
    total = sum(leaf[0].size for leaf in mask.values())
    found = np.sum(list(kept(mask).values()), axis=0)
    np.testing.assert_array_equal(found, round(0.1 * total))


def test_a_pattern_holds_in_every_group_and_says_what_it_leaves(tmp_path):
    printed = small.run(tmp_path / "run", pattern="2:4", density=0.5)
    mask, variables = results.load(tmp_path / "run", "sparse/2:4")
    assert_zero_where_pruned(mask, variables)
    (network,) = results.read(tmp_path / "run").sparse
    for path, leaf in mask.items():
        inputs = leaf.shape[1]
        if inputs % 4:
            assert leaf.all()
            assert path in network.untouched
            assert f"{path} stays dense" in printed
        else:
            groups = leaf.reshape(2, inputs // 4, 4, -1).sum(2)
            np.testing.assert_array_equal(groups, 2)


def test_scores_that_are_no_numbers_make_no_pattern(tmp_path, monkeypatch):
    def score(evidence):
        return {path: np.nan * weight for path, weight in evidence.weights.items()}

    monkeypatch.setitem(CRITERIA, "l1", Criterion(score=score))
    with pytest.raises(UserError, match=r"prune\.criterion: .* scores are no numbers"):
        small.train(tmp_path / "run", "--config.train.steps=5", criterion="l1", pattern="2:4")


@pytest.mark.parametrize("method", ["proximal_l1", "proximal_l2"])
def test_weights_shrink_to_zero_where_nothing_pulls(method, tmp_path):
    small.train(tmp_path / "run", method=method, strength=(3e-4, 3e-3))
    some, most = (network.density for network in results.read(tmp_path / "run").sparse)
    assert all(1 > a > b > 0 for a, b in zip(some, most, strict=True))


@pytest.mark.parametrize("method", ["one_shot", "iterative"])
def test_a_search_hands_out_the_sparsest_that_holds_its_target(method, tmp_path):
    folder = tmp_path / "run"
    flags = {"method": method, "least_accuracy": 0.7, "iterations": 3, "least_density": 0.02}
    small.train(folder, "--config.data.validation_examples=200", **flags)
    run = Run(folder)
    tried = {
        name: run.unit(name).verify() for name in run.units() if name.startswith("iterations/")
    }
    held = {n: m for n, m in tried.items() if np.mean(m["validation"]) >= 0.7}
    assert 0 < len(held) < len(tried)  # the target lies between what was tried
    best = min(held, key=lambda name: held[name]["asked"])
    chosen = run.unit("sparse/target").verify()
    assert chosen["test"] == held[best]["test"]
    assert_same_tree(run.unit("sparse/target").result()[0], run.unit(best).result()[0])
    if method == "one_shot":  # bisection of the logarithm
        assert next(iter(tried.values()))["asked"] == pytest.approx(np.sqrt(0.02))


def test_a_search_that_finds_none_hands_out_the_dense_network(tmp_path):
    folder = tmp_path / "run"
    more = ("--config.data.validation_examples=200",)
    small.train(folder, *more, least_accuracy=0.999, iterations=1)
    chosen, dense = (Run(folder).unit(name).verify() for name in ("sparse/target", "dense"))
    assert chosen["test"] == dense["test"]
    assert chosen["density"] == [1.0, 1.0]
    assert "no sparse network holds the target" in (folder / "run.log").read_text()


def test_a_search_needs_a_validation_split(tmp_path):
    with pytest.raises(UserError, match=r"need data\.validation_examples above 0"):
        small.train(tmp_path / "run", keep_accuracy=0.01)
