"""MSDNet block by block in ncnn beside the network itself and its early exits in JAX."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deploy.exits import export_exits
from deploy.runtimes import exits
from msdnet import early_exit
from tests.msdnet import small

pytest.importorskip("ncnn")

SHAPE = (8, 8, 1)
TEMPERATURES = (0.5, 0.4, 0.3)  # of an untrained network, whose classes are all alike


@pytest.fixture(scope="module")
def network():
    """A network, its variables, images, and the logits of all exits for them."""
    model = small.model()
    images = np.random.default_rng(0).normal(size=(8, *SHAPE)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    return model, variables, images, np.stack(jax.jit(model.apply)(variables, images))


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    model, variables, _, _ = network
    made = tmp_path_factory.mktemp("exits")
    files = export_exits(model, variables, jnp.zeros((1, *SHAPE)), "ncnn", made)
    names = [f"block_{k}.{kind}" for k in range(3) for kind in ("param", "bin")]
    assert [file.name for file in files] == [*names, "exits.json"]
    return made


@pytest.fixture(scope="module")
def thresholds(network):
    """Between confidences, so that some images leave at each exit."""
    *_, logits = network
    first, second, _ = (exits.confidence(x, t) for x, t in zip(logits, TEMPERATURES, strict=True))
    rest = np.sort(second[np.argsort(first)[:5]])
    return [float(np.sort(first)[4:6].mean()), float(rest[2:4].mean())]


def test_images_leave_where_they_do_in_jax(network, folder, thresholds):
    model, variables, images, logits = network
    run = exits.load_exits(folder, "ncnn", thresholds, temperatures=TEMPERATURES)
    answers = run(images)
    expected = early_exit.predict(
        model, variables, images, thresholds, 8, temperatures=TEMPERATURES
    )
    assert sorted(set(answers.exits)) == [0, 1, 2]
    np.testing.assert_array_equal(answers.exits, expected.exits)
    np.testing.assert_array_equal(answers.logits.argmax(-1), expected.labels)
    wanted = logits[answers.exits, np.arange(8)]
    np.testing.assert_allclose(answers.logits, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_blocks_behind_the_exit_are_not_run(folder, thresholds, network, monkeypatch):
    from deploy import engines

    counts, load = [0, 0, 0], engines.load

    def counted(path, *options):
        run, k = load(path, *options), int(path.stem[-1])

        def call(*arrays):
            counts[k] += len(arrays[0])
            return run(*arrays)

        return call

    monkeypatch.setattr(engines, "load", counted)
    images = network[2]
    exits.load_exits(folder, "ncnn", [-1, -1])(images)
    assert counts == [8, 0, 0]
    exits.load_exits(folder, "ncnn", thresholds, temperatures=TEMPERATURES)(images)
    assert counts[0] == 16
    assert counts[0] > counts[1] > counts[2] > 0


def test_files_of_a_batch_are_filled_with_copies():
    seen = []

    def any_number(array):
        seen.append(len(array))
        return array * 2

    (found,) = exits._called(any_number, [np.arange(10.0).reshape(5, 2)], 4, is_last=True)
    assert seen == [8]
    np.testing.assert_array_equal(found, 2 * np.arange(10.0).reshape(5, 2))


def test_blocks_that_are_functions_as_integers_and_in_batches(tmp_path):
    random = np.random.default_rng(1)
    variables = [np.float32(random.normal(size=(6, 6))) for _ in range(4)]

    def first(variables, inputs):
        features = {"a": jnp.tanh(inputs @ variables[0]), "b": inputs}
        return features, features["a"] @ variables[1]

    def second(variables, features):
        return None, (features["a"] + features["b"]) @ variables[2]

    inputs = np.float32(random.normal(size=(5, 6)))
    example = jnp.zeros((2, 6))
    export_exits([first, second], variables, example, "ncnn", tmp_path, int8=inputs)
    threshold = float(np.median(exits.confidence(np.tanh(inputs @ variables[0]) @ variables[1])))
    answers = exits.load_exits(tmp_path, "ncnn", [threshold])(inputs)
    after = np.tanh(inputs @ variables[0])
    all_logits = np.stack([after @ variables[1], (after + inputs) @ variables[2]])
    wanted = all_logits[answers.exits, np.arange(5)]
    assert sorted(set(answers.exits)) == [0, 1]
    np.testing.assert_allclose(answers.logits, wanted, rtol=0, atol=0.03 * np.abs(wanted).max())
    assert not np.allclose(answers.logits, wanted, rtol=0, atol=1e-5)  # they are rounded


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (dict(thresholds=[0.5]), "must be 2 numbers for 3 exits"),
        (dict(thresholds=[0.5, float("nan")]), "must be 2 numbers for 3 exits"),
        (dict(thresholds=[0, 0], temperatures=[1, 0, 1]), "must be 3 positive numbers"),
        (dict(thresholds=[0, 0], threads=0), "threads=0"),
    ],
)
def test_wrong_settings_are_refused(options, why, folder):
    with pytest.raises(ValueError, match=why):
        exits.load_exits(folder, "ncnn", **options)


def test_an_unfinished_export_and_networks_without_exits_are_refused(tmp_path, folder):
    with pytest.raises(FileNotFoundError):
        exits.load_exits(tmp_path, "ncnn", [])
    run = exits.load_exits(folder, "ncnn", [0, 0])
    for given in ([np.zeros((0, 8, 8, 1), np.float32)], [np.float32(1)], []):
        with pytest.raises(ValueError, match=r"must be arrays \[N, …\] of one N from 1, not"):
            run(*given)
    with pytest.raises(ValueError, match="has no exits"):
        export_exits(nn.Dense(3), {}, jnp.zeros((1, 2)), "ncnn", tmp_path)
    assert json.loads((folder / "exits.json").read_text())["batch"] == 1
