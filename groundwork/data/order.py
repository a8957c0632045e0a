"""The order of the examples in an epoch: Grain's, for many places at once. Read `shuffled` first.

Grain encrypts a place, in a block of at least 16 bits, until the result is an example. A call costs
5 µs where there are 60,000 examples, and 300 µs where there are 300, since nearly all of a block
lies outside. Here the whole block is encrypted at once. This module does without JAX, since worker
processes import it.

Sources: the Simon cipher, Beaulieu et al., eprint 2013/404; the walk along its cycles, Black &
Rogaway, "Ciphers with arbitrary finite domains", 2002.
"""

# N examples

import functools

import numpy as np

ROUNDS = 4
BLOCK_BITS = 16
BLOCK = 2**BLOCK_BITS  # examples, up to which all of an epoch's order is computed
EPOCHS = 256  # whose orders are kept, each of 256 KiB at most: two for each replicate
WORD = 2**32


def shuffled(sequence: range, examples: int, seed: int) -> np.ndarray:
    """Returns the examples at places of an endless sequence of epochs, int64.

    Args:
      sequence: the places, from 0 on.
      examples: their number, N, at least 1.
      seed: of the first epoch, in 32 bits; those that follow have the next ones.
    """
    epochs, places = np.divmod(np.asarray(sequence, np.int64), examples)
    found = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        there = epochs == epoch
        found[there] = _of_epoch(places[there], examples, (seed + epoch) % WORD)
    return found


def _of_epoch(places: np.ndarray, examples: int, seed: int) -> np.ndarray:
    if examples == 1:
        return places
    if examples <= BLOCK:
        return _whole_epoch(examples, seed)[places]
    import grain  # only here: its import takes a third of a second

    shuffle = functools.partial(
        grain.experimental.index_shuffle, max_index=examples - 1, seed=seed, rounds=ROUNDS
    )
    return np.array([shuffle(place) for place in places.tolist()])


@functools.lru_cache(EPOCHS)
def _whole_epoch(examples: int, seed: int) -> np.ndarray:
    """Returns an epoch's order, [N] int32: all places walk at once, in steps of doubled length."""
    found = _encrypted(np.arange(BLOCK), _keys(seed))
    while (found[:examples] >= examples).any():
        found = np.where(found >= examples, found[found], found)
    return found[:examples].astype(np.int32)


def _encrypted(values: np.ndarray, keys: list[int]) -> np.ndarray:
    """Returns values of a block, encrypted: a permutation of all of them."""
    width = BLOCK_BITS // 2
    mask = 2**width - 1

    def mixed(x: np.ndarray) -> np.ndarray:
        one, two, eight = (x << turn | x >> (width - turn) for turn in (1, 2, 8))
        return (one & eight) ^ two

    left, right = values >> width, values & mask
    for key in keys:
        left, right = right, (left ^ mixed(right) ^ key) & mask
    return left << width | right


def _keys(seed: int) -> list[int]:
    """Returns a key of 32 bits for each round: `std::seed_seq{seed}` of C++, [rand.util.seedseq].

    The numbers p and q of its definition are 1 and 2 for four keys.
    """
    state = [0x8B8B8B8B] * ROUNDS
    added = [1, 1 + seed, 2, 3]  # the number of seeds; then the index, with the seed once

    def hashed(x: int) -> int:
        return x ^ x >> 27

    for k in range(ROUNDS):
        p, q = (k + 1) % ROUNDS, (k + 2) % ROUNDS
        first = 1664525 * hashed(state[k] ^ state[p] ^ state[k - 1]) % WORD
        last = (first + added[k]) % WORD
        state[p] = (state[p] + first) % WORD
        state[q] = (state[q] + last) % WORD
        state[k] = last
    for k in range(ROUNDS):
        p, q = (k + 1) % ROUNDS, (k + 2) % ROUNDS
        first = 1566083941 * hashed((state[k] + state[p] + state[k - 1]) % WORD) % WORD
        last = (first - k) % WORD
        state[p] ^= first
        state[q] ^= last
        state[k] = last
    return state
