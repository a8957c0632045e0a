"""Huffman coding as the textbook has it, and a decoder written from the format's description."""

import heapq
import itertools
import re

import numpy as np


def exactly(message):
    """The pattern of this message and no other."""
    return f"^{re.escape(message)}$"


def heap_lengths(counts):
    """Depths in the tree that joins the two lightest again and again."""
    heap = [(count, i, [i]) for i, count in enumerate(counts) if count]
    depths, tie = [0] * len(counts), len(counts)
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, _, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for i in left + right:
            depths[i] += 1
        tie += 1
        heapq.heappush(heap, (a + b, tie, left + right))
    return depths


def least_bits(counts, limit):
    """Of all lengths 1 … limit that satisfy Kraft's inequality."""
    return min(
        sum(c * n for c, n in zip(counts, lengths, strict=True))
        for lengths in itertools.product(range(1, limit + 1), repeat=len(counts))
        if sum(2.0**-n for n in lengths) <= 1
    )


class Reader:
    """Bit after bit."""

    def __init__(self, data):
        self.bits, self.at = "".join(f"{byte:08b}" for byte in data), 0

    def take(self, count):
        self.at += count
        assert self.at <= len(self.bits)
        return self.bits[self.at - count : self.at]

    def number(self, count):
        return int(self.take(count) or "0", 2)

    def leb128(self):
        byte = self.number(8)
        return byte if byte < 128 else byte - 128 + 128 * self.leb128()

    def gamma(self):
        zeros = 0
        while self.take(1) == "0":
            zeros += 1
        return int("1" + self.take(zeros), 2)

    def fill(self):
        assert not int(self.take(-self.at % 8) or "0", 2)


def block(count):
    """Symbols of each block."""
    return next(size for size in (2**k for k in itertools.count(12)) if -(-count // size) <= 2048)


def decode(data):
    """Symbols, lengths by symbol, and the index's bits a block."""
    read = Reader(data)
    count = read.leb128()
    if not count:
        return [], {}, []
    alphabet = read.leb128() + 1
    last, lengths = read.number(5), []
    if not last:
        read.fill()
        return [alphabet - 1] * count, {}, []
    while len(lengths) < alphabet:
        kind = next((i for i in range(4) if read.take(1) == "0"), 4)
        if kind == 1:
            last += 1 if read.take(1) == "0" else -1
        elif kind == 4:
            sign = 1 if read.take(1) == "0" else -1
            last += sign * (1 + read.gamma())
        run = 1
        if kind == 2:
            run = 7 + read.gamma()
        if kind == 3:
            lengths += [0] * read.gamma()
        else:
            lengths += [last] * run
    assert len(lengths) == alphabet
    read.fill()
    index = []
    if count > 262_144:
        least, width = read.leb128(), read.number(8)
        index = [least + read.number(width) for _ in range(-(-count // block(count)) - 1)]
        read.fill()
    words, word, before = {}, -1, 0
    for length, symbol in sorted((n, s) for s, n in enumerate(lengths) if n):
        word = (word + 1) << (length - before)
        words[f"{word:0{length}b}"], before = symbol, length
    assert set(max(words, key=len)) == {"1"} or word + 1 == 1 << before
    symbols, string, begins = [], "", []
    start = read.at
    while len(symbols) < count:
        if not string and len(symbols) % block(count) == 0:
            begins.append(read.at - start)
        string += read.take(1)
        if string in words:
            symbols.append(words[string])
            string = ""
    read.fill()
    assert read.at == len(read.bits)
    if index:
        assert list(np.diff(begins)) == index
    return symbols, {s: n for s, n in enumerate(lengths) if n}, index


class Lanes:
    """rANS, one lane and one bit after another."""

    def __init__(self, data, lanes):
        bits, at, self.states = "".join(f"{byte:08b}" for byte in data), 0, []
        for _ in range(lanes):
            length = 16 + int(bits[at : at + 4], 2)
            self.states.append(int("1" + bits[at + 4 : at + 4 + length], 2))
            at += 4 + length
        at = -(-at // 8)
        rest = data[at:]
        self.words = [rest[i] + 256 * rest[i + 1] for i in range(0, len(rest), 2)]

    def step(self, chances):
        """The bits of the first lanes. All are decoded before any takes a word."""
        ones = []
        for lane, chance in enumerate(chances):
            state = self.states[lane]
            slot = state % 65536
            ones.append(slot < chance)
            low, share = (0, chance) if ones[-1] else (chance, 65536 - chance)
            state = share * (state // 65536) + slot - low
            if state < 65536:
                state = 65536 * state + self.words.pop(0)
            self.states[lane] = state
        return ones

    def narrow(self, lanes):
        self.words = [state - 65536 for state in self.states[lanes:]] + self.words
        self.states = self.states[:lanes]


def _chance(value):
    return min(max(value, 8), 65528)


def adaptive(data, shape, levels, zero):
    """The symbols of `compress.coding.adaptive`, as its modules' docstrings describe them."""
    read = Reader(data)
    wanted, fewer, lag, inertia = (read.leb128() for _ in range(4))
    rows, columns = int(np.prod(shape[:-1], dtype=int)), shape[-1] if shape else 1
    turned = columns < min(wanted, rows)
    if turned:
        rows, columns = columns, rows
    stride = max(-(-columns // wanted), 1)
    lanes = Lanes(data[read.at // 8 :], max(-(-columns // stride), 1))
    kept = {(r, c): zero is None for r in range(rows) for c in range(columns)}
    if zero is not None:
        _places(lanes, kept, (rows, columns), stride, lag, divmod(inertia, 16))
    lanes.narrow(fewer)
    at = [place for place in sorted(kept) if kept[place]]
    middle = levels // 2 if zero is None else zero
    sizes = (middle, levels - middle - (zero is not None))
    found = _symbols(lanes, at, sizes, fewer, lag)
    assert set(lanes.states) == {65536}
    assert not any(lanes.words)
    out = dict.fromkeys(kept, middle)
    for place, (positive, size) in found.items():
        assert size < sizes[positive]
        away = size + (zero is not None)
        out[place] = middle + away if positive else middle - away - (zero is None)
    order = [(c, r) for r in range(columns) for c in range(rows)] if turned else sorted(out)
    return [out[place] for place in order]


def _places(lanes, kept, shape, stride, lag, inertia):
    one, (rows, columns) = 65536, shape
    ones, zeros = 1, 9
    of_column = [2 * [one * 2 ** inertia[1]] for _ in range(columns)]
    of_near = [[2 * one, 2 * one] for _ in range(16)]
    for r in range(rows):

        def near(c, r=r):
            groups = [(1,), (lag,), (lag - 1, lag + 1), (2 * lag,)] if lag else [(1,)]
            hits = [any(d > 0 and kept.get((r - d, c), False) for d in group) for group in groups]
            return sum(hit << i for i, hit in enumerate(hits))

        kinds = [near(c) for c in range(columns)]
        by_column = [max((k << 12) // e, 1) for k, e in of_column]
        by_near = [max((k << 12) // e, 1) for k, e in of_near]
        row, chances = 2 * [one * 2 ** inertia[0]], {}
        for first in range(min(stride, columns)):
            part = range(first, columns, stride)
            by_row = max((row[0] << 12) // row[1], 1)
            odds = min(((ones << 16) // zeros * by_row) >> 12, 1 << 24)
            for c in part:
                factor = min(by_column[c] * by_near[kinds[c]], 1 << 28)
                scaled = factor * odds >> 24
                chances[c] = _chance((scaled << 16) // (scaled + one))
            bits = lanes.step([chances[c] for c in part])
            for c, bit in zip(part, bits, strict=True):
                kept[r, c] = bit
            ones, zeros = ones + 2 * sum(bits), zeros + 2 * (len(bits) - sum(bits))
            row[0] += one * sum(bits)
            row[1] += (sum(chances[c] for c in part) << 12) // by_row
        for c in range(columns):
            for state, factor in (
                (of_column[c], by_column[c]),
                (of_near[kinds[c]], by_near[kinds[c]]),
            ):
                state[0] += one * kept[r, c]
                state[1] += (chances[c] << 12) // factor


def _symbols(lanes, at, sizes, fewer, lag):
    """Place → sign and size."""
    distances = [(1, 2)] + ([(lag, 2), (lag - 1, 1), (lag + 1, 1), (2 * lag, 1)] if lag else [])
    longest = [max(size.bit_length() - 1, 0) for size in sizes]

    def plane(who, contexts, known):
        """One bit of each; `known` has the bits of the plane, or is None for digits."""
        counts, bits = {}, {}
        for first in range(0, len(who), fewer):
            part, keys, chances = who[first : first + fewer], [], []
            for r, c in part:
                lean = 0
                if known is not None:
                    lean = sum(w * known.get((r - d, c), 0) for d, w in distances)
                keys.append((contexts[r, c], min(max(lean, -3), 3)))
                k, n = counts.get(keys[-1], (0, 0))
                chances.append(_chance(((5 * k + 2) << 16) // (5 * n + 4)))
            for place, key, bit in zip(part, keys, lanes.step(chances), strict=True):
                k, n = counts.get(key, (0, 0))
                counts[key] = (k + bit, n + 1)
                bits[place] = bit
                if known is not None:
                    known[place] = 1 if bit else -1
        return bits

    positive = dict.fromkeys(at, sizes[1] > 0)
    if min(sizes):
        positive = plane(at, dict.fromkeys(at, 0), {})
    digits = dict.fromkeys(at, 0)
    for level in range(max(longest)):
        known = {place: -1 for place in at if digits[place] < level}
        who = [p for p in at if digits[p] == level and longest[positive[p]] > level]
        for place, bit in plane(who, positive, known).items():
            digits[place] += bit
    value = dict.fromkeys(at, 1)
    for level in range(max(longest)):
        who = [p for p in at if digits[p] > level]
        before = {p: value[p] if level <= 3 else 1 << level for p in who}
        contexts = {p: (positive[p], digits[p], before[p]) for p in who}
        for place, bit in plane(who, contexts, None).items():
            value[place] = 2 * value[place] + bit
    return {place: (positive[place], value[place] - 1) for place in at}
