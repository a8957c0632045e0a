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
