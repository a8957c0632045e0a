"""Orders of epochs: those of Grain, whatever the number of examples."""

import grain
import numpy as np
import pytest

from groundwork.data import order

SEEDS = (0, 1, 123_456_789, 2**32 - 1)


def grains_own(sequence, examples, seed):
    found = []
    for at in sequence:
        epoch, place = divmod(at, examples)
        of_epoch = dict(max_index=examples - 1, seed=(seed + epoch) % 2**32, rounds=4)
        found.append(grain.experimental.index_shuffle(place, **of_epoch))
    return found


@pytest.mark.parametrize("examples", [300, 4096, 60_000, 65_535, 65_536, 65_537, 2**33])
def test_the_order_is_grains(examples):
    for seed in SEEDS:
        for start in (0, examples // 2, examples - 3, 7 * examples - 3):
            sequence = range(max(start, 0), max(start, 0) + 6)  # over the ends of epochs
            found = order.shuffled(sequence, examples, seed)
            assert found.dtype == np.int64
            assert found.tolist() == grains_own(sequence, examples, seed)


def test_one_example_comes_again_and_again():
    np.testing.assert_array_equal(order.shuffled(range(5, 9), 1, 3), np.zeros(4))


@pytest.mark.parametrize("examples", [5, 300, 65_536])
def test_an_epoch_is_a_permutation(examples):
    found = order.shuffled(range(examples, 2 * examples), examples, 9)
    np.testing.assert_array_equal(np.sort(found), np.arange(examples))


@pytest.mark.parametrize("examples", [2, 40])
def test_all_places_of_a_small_set_are_grains(examples):
    sequence = range(3 * examples)
    assert order.shuffled(sequence, examples, 8).tolist() == grains_own(sequence, examples, 8)
