import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from groundwork import config as config_lib
from groundwork import keys
from groundwork.data import checks, own, readers
from groundwork.data import dataset as data_lib
from groundwork.errors import UserError
from lottery import main
from tests import in_process
from tests.lottery import small

BASE = dict(name="x", source="x", dir="", validation_examples=0, split_seed=0, standardize=True)


@pytest.fixture
def serve(monkeypatch):
    """Make arrays a source of their own, `x`, read with a `data` section; then load that."""

    def load(train, test=None, classes=10, only=(), **section):
        read = train, test or train, classes
        section |= {"classes": list(only)} if only else {}
        monkeypatch.setitem(readers.SOURCES, "x", lambda name, folder: read)
        return data_lib.load({**BASE, **section})

    return load


def numbered(n, shape=(1,)):
    """n examples; image i holds i in its two lowest bytes, and its label is i modulo 10."""
    images = np.zeros((n, 2, *shape), np.uint8)
    images[:, 0] = (np.arange(n) % 256).reshape(-1, *[1] * len(shape))
    images[:, 1] = (np.arange(n) // 256).reshape(-1, *[1] * len(shape))
    return images, np.arange(n) % 10


def numbers(split):
    low, high = split.inputs[:, :, 0].astype(int).T
    return low + 256 * high


@pytest.fixture(scope="module")
def digits():
    return data_lib.load({**BASE, "name": "digits", "source": "digits", "validation_examples": 200})


# what is loaded


def test_digits_load_whole(digits):
    assert (digits.name, digits.classes, digits.shape) == ("digits", 10, (8, 8, 1))
    assert [len(split.labels) for split in digits[1:4]] == [1300, 200, 297]
    for split in digits[1:4]:
        assert split.inputs.dtype == np.uint8
        assert split.labels.dtype == np.int32
        assert len(split.inputs) == len(split.labels)


def test_the_whole_config_gives_the_same_as_its_section():
    section = {**BASE, "name": "digits", "source": "digits", "validation_examples": 7}
    ours, theirs = data_lib.load(section), data_lib.load({"seed": 5, "data": section, "levels": 3})
    jax.tree.map(np.testing.assert_array_equal, ours[1:], theirs[1:])


def test_some_classes_are_kept_and_numbered_anew_in_their_order(serve):
    train, test = numbered(50), numbered(30)
    half = serve(train, test, only=[7, 2, 5], validation_examples=4)
    assert half.classes == 3
    assert [len(split.labels) for split in half[1:4]] == [11, 4, 9]
    for split, ends in ((half.train, 50), (half.validation, 50), (half.test, 30)):
        assert numbers(split).max() < ends
        np.testing.assert_array_equal(numbers(split) % 10, np.asarray([7, 2, 5])[split.labels])
    assert {*numbers(half.train), *numbers(half.validation)} == {
        n for n in range(50) if n % 10 in (2, 5, 7)
    }


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"only": [1, 1]}, r"data.classes=\(1, 1\) must be distinct classes from 0"),
        ({"only": [-1]}, "must be distinct classes from 0"),
        ({"only": [3, 10]}, r"data.classes=\(3, 10\): x has classes 0 to 9"),
        ({"only": [9]}, r"data.classes=\(9,\): train of x has no example of them"),
        ({"only": [1], "stream": True}, "data.classes is for data in memory"),
    ],
)
def test_classes_that_cannot_be_kept_are_refused(serve, section, said):
    images, labels = numbered(50)
    with pytest.raises(UserError, match=said):
        serve((images, labels % 9), source="tfds" if "stream" in section else "x", **section)


def test_classes_cannot_be_chosen_where_targets_are_none():
    images, _ = numbered(9)
    numbers = np.linspace(0, 1, 9, dtype=np.float32)
    given = checks.checked("x", own.Given((images, numbers), (images, numbers)))
    with pytest.raises(UserError, match="the targets of x are no classes"):
        checks.of_classes("x", given, (1,))


def test_an_unknown_source_suggests_the_near_one_and_lists_all():
    with pytest.raises(
        UserError,
        match=r"'tdfs'; did you mean 'tfds'.*digit_canvases, digits, folder, .*text, tfds",
    ):
        data_lib.load({**BASE, "source": "tdfs"})


@pytest.mark.parametrize("bad", [10, 255, -1])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_label_out_of_range_is_named_with_its_place(serve, split, bad):
    good, (images, labels) = numbered(20), numbered(20)
    labels[13] = bad
    splits = ((images, labels), good) if split == "train" else (good, (images, labels))
    with pytest.raises(UserError, match=f"label {bad} of example 13 .*expected 0 to 9"):
        serve(*splits)


def test_labels_up_to_the_last_class_are_fine(serve):
    assert serve(numbered(20)).train.labels.max() == 9
    with pytest.raises(UserError, match=r"label 9 of example 9 .*expected 0 to 8"):
        serve(numbered(20), classes=9)


def test_labels_that_no_training_example_has_are_said(serve):
    images, labels = numbered(26)
    assert data_lib.warnings(serve((images, labels), (images, labels)), True) == []
    from_one = (images, np.arange(26) % 26 + 1)  # as EMNIST's letters
    letters = serve(from_one, from_one, classes=None)
    assert data_lib.warnings(letters, False) == []
    assert data_lib.warnings(letters, True) == [
        "no training example has the label 0: the network has 27 outputs all the same"
    ]
    (said,) = data_lib.warnings(serve((images, 4 * from_one[1]), from_one, classes=None), True)
    assert "the label 0, 1, 2, 3, 5, 6, 7, 9, 10, 11 and 69 more: the network has 105" in said
    with pytest.raises(UserError, match=r"there are 2600001 classes, .* of 26 alone: number the"):
        data_lib.warnings(serve((images, 100_000 * from_one[1]), from_one, classes=None), True)
    scores = (images, np.ones((26, 3), np.int32))
    assert data_lib.warnings(serve(scores, scores, classes=9), True) == []


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.uint8, np.float32])
def test_images_that_are_taken_for_tokens_are_said(serve, dtype):
    images, labels = numbered(20)
    given = (images.astype(dtype), labels)
    said = data_lib.warnings(serve(given, given), False)
    if np.dtype(dtype) in (np.uint8, np.float32):
        assert not said
    else:
        assert "as tokens would be: images are of uint8" in said[0]


def test_a_run_says_which_labels_nothing_has_where_it_learns_classes(serve, tmp_path, capfd):
    """The real code path of a command, which trains nothing here."""
    images, labels = numbered(300)
    np.savez(tmp_path / "a.npz", x_train=images, y_train=labels + 1, x_test=images, y_test=labels)

    def idle(*args):
        return dataclasses.replace(main.STUDY.prepare(*args), work=lambda context: None)

    data = f"--config.data.dir={tmp_path / 'a.npz'}"
    few = "--config.data.validation_examples=100"
    in_process.train(
        dataclasses.replace(main.STUDY, prepare=idle),
        [*small.ARGS, f"--workdir={tmp_path / 'run'}", data, few, "--config.data.source=npz"],
    )
    said = "warning: no training example has the label 0: the network has 11 outputs"
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("split", ["train", "test"])
def test_as_many_labels_as_images_are_demanded(serve, split):
    good, (images, labels) = numbered(20), numbered(20)
    bad = (images, labels[:-1])
    with pytest.raises(UserError, match=r"x .*20 images but 19 labels"):
        serve(*((bad, good) if split == "train" else (good, bad)))


def test_test_images_of_another_shape_are_refused(serve):
    with pytest.raises(UserError, match=r"x .*shape"):
        serve(numbered(20, (3,)), numbered(20, (4,)))


# validation split


@pytest.mark.parametrize("held", [0, 1, 100, 599])
def test_the_validation_split_is_disjoint_and_of_exact_size(serve, held):
    loaded = serve(numbered(600), numbered(11), validation_examples=held)
    assert (len(loaded.validation.labels), len(loaded.train.labels)) == (held, 600 - held)
    both = np.concatenate([numbers(loaded.train), numbers(loaded.validation)])
    np.testing.assert_array_equal(np.sort(both), np.arange(600))
    for split in loaded[1:4]:  # each image still has its label
        np.testing.assert_array_equal(split.labels, numbers(split) % 10)
    np.testing.assert_array_equal(numbers(loaded.test), np.arange(11))


@pytest.mark.parametrize("held", [-1, 600, 601])
def test_a_validation_split_that_leaves_nothing_is_refused(serve, held):
    with pytest.raises(UserError, match=f"data.validation_examples={held} .*600"):
        serve(numbered(600), validation_examples=held)


def test_the_validation_split_is_drawn_not_cut(serve):
    held = numbers(serve(numbered(600), validation_examples=300).validation)
    # numbers held of the first half: hypergeometric, 150 in the mean, deviation 6.1
    assert 120 < np.sum(held < 300) < 180


def test_the_validation_split_depends_on_split_seed_alone(serve):
    def held(split_seed, **config):
        section = dict(BASE, validation_examples=100, split_seed=split_seed)
        return numbers(data_lib.load({**config, "data": section}).validation)

    serve(numbered(600))
    first = held(0, seed=0, replicates=1)
    np.random.seed(11)
    np.testing.assert_array_equal(held(0, seed=1, replicates=3), first)
    assert len(np.intersect1d(held(1, seed=0, replicates=1), first)) < 50


def test_a_negative_split_seed_is_refused(serve):
    with pytest.raises(UserError, match=r"data\.split_seed=-1"):
        serve(numbered(20), split_seed=-1)


# streams


STREAM = dict(name="x", source="tfds", stream=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 32),
        ("augment", "crop_flip"),
        ("workers", 2),
    ],
)
def test_what_streams_alone_can_do_is_refused_without_one(key, value):
    with pytest.raises(UserError, match=rf"data\.{key}=.* needs data\.stream=True"):
        data_lib.DataSpec("x", "tfds", **{key: value})


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (dict(source="idx"), r"data\.stream=True needs data\.source=tfds, not idx"),
        (dict(image_size=-1), r"data\.image_size=-1 must be at least 0"),
        (dict(workers=-1), r"data\.workers=-1 must be at least 0"),
        (dict(augment="crop_flop"), r"data\.augment 'crop_flop'; did you mean 'crop_flip'"),
        (dict(augment="resized_crop"), r"resized_crop needs data\.image_size"),
        (dict(mean=(0.5,)), r"data\.mean=.*data\.std=.*equally long"),
        (dict(mean=(0.5,), std=(0.5, 0.5)), r"data\.mean=.*data\.std=.*equally long"),
        (dict(mean=(0.5,), std=(0.5,), standardize=False), r"no use with data\.standardize=False"),
        (dict(mean=(127.5,), std=(0.5,)), r"in \[0, 1\].*divide .* by 255"),
        (dict(mean=(0.5,), std=(0.0,)), r"in \[0, 1\]"),
        (dict(mean=(0.5,), std=(64.0,)), r"in \[0, 1\]"),
    ],
)
def test_a_stream_that_cannot_be_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        data_lib.DataSpec(**{**STREAM, **section})


def test_a_spec_comes_back_from_json():
    spec = data_lib.DataSpec("x", "tfds")
    section = json.loads(json.dumps(dataclasses.asdict(spec)))
    assert config_lib.build(data_lib.DataSpec, section, "data") == spec


# standardisation


def test_the_train_splits_inputs_have_mean_0_and_deviation_1(digits):
    inputs = np.asarray(data_lib.normalize(digits, jnp.asarray(digits.train.inputs)), np.float64)
    assert inputs.shape == digits.train.inputs.shape
    np.testing.assert_allclose(inputs.mean(), 0, atol=1e-6)
    np.testing.assert_allclose(inputs.std(), 1, rtol=1e-6)


def test_validation_and_test_are_normalised_by_the_train_splits_moments(digits):
    train = digits.train.inputs / 255
    for split in (digits.validation, digits.test):
        inputs = data_lib.normalize(digits, jnp.asarray(split.inputs))
        assert inputs.dtype == jnp.float32
        expected = (split.inputs / 255 - train.mean()) / train.std()
        np.testing.assert_allclose(inputs, expected, rtol=1e-5, atol=1e-6)
        assert abs(float(inputs.mean())) > 1e-4  # they have moments of their own


def test_each_channel_is_standardised_by_itself(serve):
    rng = np.random.default_rng(0)
    images = (rng.random((50, 6, 5, 3)) * (255, 60, 120) + (0, 30, 100)).astype(np.uint8)
    loaded = serve((images, np.zeros(50, int)), validation_examples=10)
    inputs = np.asarray(data_lib.normalize(loaded, jnp.asarray(loaded.train.inputs)), np.float64)
    np.testing.assert_allclose(inputs.mean((0, 1, 2)), np.zeros(3), atol=1e-6)
    np.testing.assert_allclose(inputs.std((0, 1, 2)), np.ones(3), rtol=1e-6)


def test_float_vectors_are_standardised_feature_by_feature_without_scaling(serve):
    rng = np.random.default_rng(0)
    images = (rng.normal(size=(400, 7)) * np.arange(1, 8) - 3).astype(np.float32)
    loaded = serve((images, np.zeros(400, int)))
    inputs = np.asarray(data_lib.normalize(loaded, jnp.asarray(images)), np.float64)
    expected = (images - images.mean(0, dtype=np.float64)) / images.std(0, dtype=np.float64)
    np.testing.assert_allclose(inputs, expected, rtol=1e-4, atol=1e-5)


def test_a_constant_channel_becomes_zero_not_nan(serve):
    images = np.full((5, 3, 3, 2), 40, np.uint8)
    images[..., 1] = np.arange(5).reshape(-1, 1, 1)
    loaded = serve((images, np.zeros(5, int)))
    inputs = np.asarray(data_lib.normalize(loaded, jnp.asarray(images)))
    np.testing.assert_allclose(inputs[..., 0], np.zeros((5, 3, 3)), atol=1e-6)
    assert inputs[..., 1].std() == pytest.approx(1, rel=1e-5)


def test_without_standardisation_bytes_are_scaled_to_0_to_1_and_floats_are_left(serve):
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    loaded = serve((images, np.zeros(4, int)), standardize=False)
    inputs = data_lib.normalize(loaded, jnp.asarray(images))
    np.testing.assert_allclose(inputs.ravel(), np.arange(256) / 255, rtol=1e-6)
    vectors = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    loaded = serve((vectors, np.zeros(4, int)), standardize=False)
    np.testing.assert_array_equal(data_lib.normalize(loaded, jnp.asarray(vectors)), vectors)


# data order


ROOT = jax.random.key(3)


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_an_epoch_visits_every_example_once(n):
    order = data_lib.epoch_order(ROOT, 0, n)
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_the_order_differs_by_epoch_and_by_key_and_is_the_same_for_the_same():
    order = data_lib.epoch_order(ROOT, 4, 500)
    again = jax.jit(data_lib.epoch_order, static_argnums=2)(jax.random.key(3), jnp.int32(4), 500)
    np.testing.assert_array_equal(order, again)
    for key, epoch in ((ROOT, 5), (jax.random.key(4), 4), (jax.random.fold_in(ROOT, 0), 4)):
        other = data_lib.epoch_order(key, epoch, 500)
        # two independent permutations agree in Poisson(1) places
        assert np.sum(np.asarray(order == other)) < 10


def test_the_order_is_a_stream_of_its_own():
    """No epoch of one replicate is an epoch of another: replicate and epoch do not add up."""
    both = jax.vmap(data_lib.epoch_order, (None, 0, None)), (0, None, None)
    orders = jax.vmap(*both)(keys.roots(0, 20), jnp.arange(20), 30)
    assert len(np.unique(orders.reshape(400, 30), axis=0)) == 400


def p_value(counts):
    return stats.chisquare(np.ravel(counts)).pvalue


def orders_of(n, count):
    return np.asarray(jax.vmap(lambda key: data_lib.epoch_order(key, 0, n))(keys.roots(1, count)))


def test_first_positions_are_uniform_over_keys_and_over_epochs():
    by_key = orders_of(16, 8000)[:, 0]
    assert p_value(np.bincount(by_key, minlength=16)) > 1e-3
    by_epoch = jax.vmap(lambda epoch: data_lib.epoch_order(ROOT, epoch, 16)[0])(jnp.arange(8000))
    assert p_value(np.bincount(by_epoch, minlength=16)) > 1e-3


def test_all_permutations_of_four_are_equally_likely():
    _, counts = np.unique(orders_of(4, 12_000) @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24
    assert p_value(counts) > 1e-3


def test_one_epochs_order_tells_nothing_of_the_nexts():
    both = jax.vmap(lambda key: [data_lib.epoch_order(key, e, 6)[0] for e in (0, 1)])
    first, second = map(np.asarray, both(keys.roots(2, 8000)))
    assert p_value(np.bincount(first * 6 + second, minlength=36)) > 1e-3
