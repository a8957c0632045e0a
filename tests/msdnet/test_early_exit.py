import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundwork.errors import UserError
from msdnet import cascade, early_exit, exits, predict
from tests.groundwork.architectures.small import as_float32, drawn_by_numpy, quickly
from tests.msdnet import small
from tests.msdnet.dense import SHAPE, DenseExits

IMAGES = 300
RNG = np.random.default_rng(0)
MODEL = DenseExits()


def variables_of(model, factor):
    """As after training: exits that are sure of some images and not of others."""
    drawn = as_float32(drawn_by_numpy(model, SHAPE))
    return jax.tree.map(lambda leaf: leaf * factor if leaf.ndim == 2 else leaf, drawn)


def all_exits(model, variables, images):
    """All exits of all images at once, [N, K, C]."""
    return np.stack(quickly(model.apply)(variables, images), 1)


@pytest.fixture(scope="module")
def images():
    return RNG.normal(size=(IMAGES, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    return variables_of(MODEL, 3)


@pytest.fixture(scope="module")
def logits(images, variables):
    return all_exits(MODEL, variables, images)


def confidences_of(logits, kind="softmax", temperatures=1.0):
    scaled = jnp.asarray(logits / np.reshape(temperatures, (-1, 1)), jnp.float32)
    return np.asarray(exits.confidence(scaled, kind))


def assert_as_all_at_once(found, logits, thresholds, kind="softmax", temperatures=1.0):
    confidences = confidences_of(logits, kind, temperatures)
    routed = exits.route(confidences, thresholds)
    near = (np.abs(confidences[:, :-1] - thresholds) < 1e-5).any(1)
    assert near.mean() < 0.1
    rows = np.arange(len(logits))
    np.testing.assert_array_equal(found.exits[~near], routed[~near])
    np.testing.assert_array_equal(found.labels[~near], logits[rows, routed].argmax(-1)[~near])
    np.testing.assert_allclose(
        found.confidences[~near], confidences[rows, routed][~near], atol=1e-5
    )


def thresholds_of(logits):
    found = exits.thresholds(confidences_of(logits), [1.0, 2.0, 3.0], 1.9)
    assert min(np.bincount(exits.route(confidences_of(logits), found), minlength=3)) > 20
    return found


@pytest.fixture(scope="module")
def thresholds(logits):
    return thresholds_of(logits)


@pytest.mark.parametrize("batch_size", [1, 7, 64, 300, 1000])
def test_exits_labels_and_confidences_are_those_of_all_exits(
    batch_size, images, variables, logits, thresholds
):
    part = slice(0, 20 if batch_size == 1 else None)
    found = predict(MODEL, variables, images[part], thresholds, batch_size)
    assert_as_all_at_once(found, logits[part], thresholds)


def test_those_of_a_multi_scale_network_too(images):
    variables = variables_of(small.model(), 1)
    logits = all_exits(small.model(), variables, images)
    found = predict(small.model(), variables, images, thresholds_of(logits), 64)
    assert_as_all_at_once(found, logits, thresholds_of(logits))


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
    limits=st.lists(st.sampled_from([-np.inf, 0.2, 0.5, 0.8, np.inf]), min_size=2, max_size=2),
)
def test_whatever_comes_in_is_answered_once_and_in_order(images, variables, logits, sizes, limits):
    ends = np.cumsum(sizes) % IMAGES
    parts = [images[end - min(size, end) : end] for size, end in zip(sizes, ends, strict=True)]
    found = predict(MODEL, variables, iter(parts), limits, 16)
    rows = [logits[end - len(p) : end] for p, end in zip(parts, ends, strict=True)]
    together = np.concatenate(rows)
    assert len(found.labels) == len(together)
    if len(together):
        assert_as_all_at_once(found, together, np.asarray(limits))


@pytest.mark.parametrize("kind", exits.CONFIDENCES)
def test_other_confidences_and_temperatures(kind, images, variables, logits):
    temperatures = np.array([0.5, 2.0, 1.0])
    confidences = confidences_of(logits, kind, temperatures)
    limits = exits.thresholds(confidences, [1.0, 2.0, 3.0], 2.0)
    options = {"confidence": kind, "temperatures": temperatures}
    found = predict(MODEL, variables, images, limits, 64, **options)
    assert_as_all_at_once(found, logits, limits, kind, temperatures)


def test_a_block_runs_for_those_alone_who_reach_it_in_full_batches(
    images, variables, thresholds, logits, monkeypatch
):
    ran = []
    blocks = cascade.compiled(MODEL, 64, "softmax")

    def first(variables, images, temperature):
        ran.append((0, len(images)))
        return blocks.first(variables, images, temperature)

    def later(k, variables, pool, start, size, temperature):
        ran.append((k, size))
        return blocks.later(k, variables, pool, start, size, temperature)

    watched = blocks._replace(first=first, later=later)
    monkeypatch.setattr(cascade, "compiled", lambda *_: watched)
    smaller = set()
    for count in (300, 150, 70, 20):
        ran.clear()
        found = predict(MODEL, variables, images[:count], thresholds, 64)
        for k in (1, 2):
            reached = int(np.sum(found.exits >= k))
            sizes = [size for block, size in ran if block == k]
            whole, rest = divmod(reached, 64)  # what is left over is padded to a smaller batch
            fitting = [size for size in (64, 16, 4, 1) if size >= rest > 0]
            assert sizes == [64] * whole + fitting[-1:]
            smaller.update(fitting[-1:])
    assert smaller >= {64, 16}


def test_compilations_are_bounded_by_blocks_and_batch_sizes(variables, thresholds, images):
    cascade._compiled.cache_clear()
    for count in (300, 299, 64, 63, 17, 16, 15, 5, 1, 130, 200, 277):
        predict(MODEL, variables, images[:count], thresholds, 64)
    blocks = cascade.compiled(MODEL, 64, "softmax")
    assert blocks.sizes == (64, 16, 4, 1)
    assert len(blocks.programs) <= 3 * 4
    assert all(run._cache_size() <= 2 for _, run in blocks.programs.values())
    assert blocks.insert._cache_size() <= 2 * 4


def test_arrays_of_a_stream_fill_whole_batches(images):
    lengths = [40, 0, 30, 70, 1]
    ends = np.cumsum(lengths)
    stream = (images[end - length : end] for end, length in zip(ends, lengths, strict=True))
    found = list(early_exit.batches(stream, 32))
    assert [len(batch) for batch in found] == [32] * 4 + [13]
    np.testing.assert_array_equal(np.concatenate(found), images[:141])


def test_a_stream_is_read_as_it_is_needed(images):
    read = []

    def stream():
        for number in range(5):
            read.append(number)
            yield images[:10]

    batches = early_exit.batches(stream(), 10)
    next(batches)
    assert read == [0]


def test_nothing_in_gives_nothing_out(variables, images):
    for nothing in (images[:0], iter([])):
        found = predict(MODEL, variables, nothing, [0.5, 0.5])
        assert [len(field) for field in found] == [0, 0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": [0.5]}, "3 exits need 2 thresholds"),
        ({"thresholds": 0.5}, "3 exits need 2 thresholds"),
        ({"temperatures": [1.0]}, "3 exits need as many temperatures"),
        ({"temperatures": [1.0, 0.0, 1.0]}, r"temperatures=\[1\.0, 0\.0, 1\.0\] must be positive"),
        ({"temperatures": [1.0, 1.0, np.nan]}, "must be positive"),
        ({"thresholds": [0.5, np.nan]}, r"thresholds=\[0\.5, nan\] must not be NaN"),
        ({"thresholds": ["a", "b"]}, "thresholds must be numbers"),
        ({"batch_size": 0}, "batch_size=0 must be an integer, at least 1"),
        ({"batch_size": 2.5}, r"batch_size=2\.5 must be an integer"),
        ({"batch_size": "16"}, "batch_size='16' must be an integer"),
        ({"images": None}, "images must be an array or an iterable of arrays, not None"),
        ({"images": jnp.zeros((2, 8, 8))}, r"not \[2, 8, 8\] float32"),
        ({"variables": {"params": {}}}, "with these variables"),
        ({"confidence": "softmx"}, "did you mean 'softmax'"),
        ({"images": np.zeros((3, 8, 8, 1), np.uint8)}, r"float32 as the network takes them.*uint8"),
        ({"images": np.zeros((8, 8, 1), np.float32)}, r"must be \[N, H, W, C\]"),
        ({"images": np.zeros((2, 8, 8, 3), np.float32)}, r"cannot take images of \[8, 8, 3\]"),
        (
            {"images": [np.zeros((2, 8, 8, 1), np.float32), np.zeros((2, 9, 8, 1), np.float32)]},
            r"images of \[8, 8, 1\] are followed by some of \[9, 8, 1\]",
        ),
    ],
)
def test_bad_input_is_one_clear_line(change, said, variables, images):
    call = {"variables": variables, "images": images, "thresholds": [0.5, 0.5], **change}
    with pytest.raises(UserError, match=said) as caught:
        predict(MODEL, **call)
    assert "\n" not in str(caught.value)


def test_variables_that_lack_a_later_block_are_one_clear_line(variables, images):
    fewer = {
        collection: {name: tree for name, tree in parts.items() if not name.endswith("_2")}
        for collection, parts in variables.items()
    }
    with pytest.raises(UserError, match=r"cannot take images.*backbone_2") as caught:
        predict(MODEL, fewer, images[:20], [np.inf, np.inf], 64)
    assert "\n" not in str(caught.value)


def test_a_call_from_within_jit_is_one_clear_line(variables, images):
    def labels(variables, images, thresholds):
        return predict(MODEL, variables, images, thresholds).labels

    given = (variables, images[:2], [0.5, 0.5])
    for traced in range(3):

        def one(value, traced=traced):
            return labels(*given[:traced], value, *given[traced + 1 :])

        with pytest.raises(UserError, match="call it outside jit"):
            jax.jit(one)(given[traced])


# as `exits.route` has it


class Given(nn.Module):
    """Both exits answer with the image."""

    exits = 2

    def block(self, k, features):
        return features, features[:, 0, 0]


def test_real_early_exits_tell_neighbouring_float32_numbers_apart_too():
    images = np.zeros((64, 1, 1, 2), np.float32)
    images[:, 0, 0, 0] = 0.6 + np.arange(64) / 2**22  # confidences that are next to each other
    predict = functools.partial(early_exit.predict, Given(), {}, images, batch_size=64)
    rows = np.stack([predict([-np.inf]).confidences] * 2, 1)
    numbers = np.unique(rows[:, 0])
    assert (np.nextafter(numbers[:-1], np.float32(2)) == numbers[1:]).sum() > 3
    for above, below in itertools.pairwise(numbers[::-1].astype(np.float64)):
        limits = [(above + below) / 2]
        assert predict(limits).exits.tolist() == exits.route(rows, limits).tolist()
        assert predict([above]).exits.tolist() == exits.route(rows, [above]).tolist()  # on one


def test_real_early_exits_let_nan_go_on_to_the_last_exit_too():
    images = np.full((4, 1, 1, 2), np.nan, np.float32)
    found = early_exit.predict(Given(), {}, images, [0.5], batch_size=4)
    assert found.exits.tolist() == exits.route(np.full((4, 2), np.nan), [0.5]).tolist()


class TestFunctions:
    """A network of functions alone: tokens and their lengths in, three exits."""

    def _parts(self):
        rng = np.random.default_rng(4)
        draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
        params = {"table": draw(7, 5), "mix": draw(3, 5, 5), "heads": 3 * draw(3, 5, 4)}

        def first(params, inputs):
            used = jnp.arange(6)[None] < inputs["length"][:, None]
            hidden = jnp.sum(jnp.where(used[..., None], params["table"][inputs["tokens"]], 0), 1)
            return later(0, params, hidden)

        def later(k, params, hidden):
            hidden = jnp.tanh(hidden @ params["mix"][k])
            return hidden, hidden @ params["heads"][k]

        blocks = (first, *(functools.partial(later, k) for k in (1, 2)))
        tokens = rng.integers(0, 7, (50, 6)).astype(np.int32)
        inputs = {"tokens": tokens, "length": rng.integers(1, 7, 50).astype(np.int32)}
        return params, blocks, inputs

    def test_of_any_network_are_taken_block_by_block(self):
        params, blocks, inputs = self._parts()
        features, answers = inputs, []
        for block in blocks:
            features, logits = block(params, features)
            answers.append(np.asarray(logits))
        thresholds = [0.99, 0.98]
        parts = [
            jax.tree.map(lambda leaf, a=a, b=b: leaf[a:b], inputs) for a, b in ((0, 7), (7, 50))
        ]
        for taken in (inputs, iter(parts)):
            found = predict(blocks, params, taken, thresholds, batch_size=16)
            assert_as_all_at_once(found, np.stack(answers, 1), thresholds)
            assert set(found.exits) == {0, 1, 2}

    def test_inputs_must_go_together(self):
        params, blocks, inputs = self._parts()
        with pytest.raises(
            UserError, match=r"^inputs must be arrays \[N, …\] of one N, not \[\[\], "
        ):
            predict(blocks, params, {**inputs, "length": inputs["length"][:3]}, [0.9, 0.8])
        longer = {**inputs, "tokens": np.zeros((50, 8), np.int32)}
        message = r"^images of \[\[\], \[6\]\] are followed by some of \[\[\], \[8\]\]$"
        with pytest.raises(UserError, match=message):
            predict(blocks, params, [inputs, longer], [0.9, 0.8], batch_size=64)
