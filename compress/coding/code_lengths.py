"""Lengths of Huffman codes: the best ones under a limit, their code words, their bits in a file."""

# A alphabet: symbols 0 … A−1; U symbols that occur

from typing import NamedTuple

import numpy as np

LIMIT = 24  # bits of the longest code word in a file
_FIRST = 5  # bits of the first length in a file
_RUN = 8  # from so many equal lengths on a run is written as one


def code_lengths(counts: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Lengths of a prefix code that spend the fewest bits on these counts: package-merge.

    Args:
      counts: [A] integers, how often each symbol occurs.
      limit: bits of the longest code word; it binds only where Huffman's own tree is deeper.

    Returns:
      [A] int64, in bits; 0 for a symbol that does not occur, and for one that occurs alone.

    Raises:
      ValueError: counts that are not a 1-D array of integers ≥ 0, more symbols than 2^limit.

    Source: Larmore & Hirschberg, JACM 37 (1990), for the algorithm.
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, not integers on one axis")
    if counts.size and counts.min() < 0:
        raise ValueError(f"counts must not be below 0; the least is {counts.min()}")
    lengths = np.zeros(counts.size, np.int64)
    used = np.flatnonzero(counts)
    if used.size < 2:
        return lengths
    if limit < 1 or used.size > 1 << min(limit, 62):
        raise ValueError(f"no code of at most {limit} bits has {used.size} words")
    if float(counts.sum(dtype=np.float64)) >= 2.0**56:
        raise ValueError("counts add up to 2^56 or more")
    order = used[np.argsort(counts[used], kind="stable")]
    lengths[order] = _package_merge(counts[order].astype(np.int64), min(limit, used.size - 1))
    return lengths


def _package_merge(weights: np.ndarray, limit: int) -> np.ndarray:
    """[U] lengths for weights in rising order.

    A level's items are all symbols and pairs ("packages") of neighbours of the level before, by
    weight. Of the last level the 2 U − 2 lightest are taken, and with a package its two items of
    the level before. A symbol's length is the number of levels in which it is taken; these are
    the lightest symbols of each level, so that only their number matters.
    """
    items, symbols = weights, [np.ones(weights.size, bool)]  # of each level, which are symbols
    for _ in range(limit - 1):
        pairs = items[: items.size // 2 * 2].reshape(-1, 2).sum(axis=1)
        joined = np.concatenate([weights, pairs])
        order = np.argsort(joined, kind="stable")
        items = joined[order]
        symbols.append(order < weights.size)
    lengths, taken = np.zeros(weights.size, np.int64), 2 * weights.size - 2
    for level in reversed(symbols):
        lightest = int(np.count_nonzero(level[:taken]))
        lengths[:lightest] += 1
        taken = 2 * (taken - lightest)
    return lengths


class Code(NamedTuple):
    """A canonical code: words of one length are consecutive numbers, shorter ones come first."""

    lengths: np.ndarray  # [A] int64, bits
    words: np.ndarray  # [A] uint64; 0 where the length is 0
    order: np.ndarray  # [U] int64: the symbols in the order of their words


def canonical(lengths: np.ndarray) -> Code:
    """The canonical code of these lengths: symbols by length, then by value, take words in turn.

    Raises:
      ValueError: lengths that leave bit strings without a meaning, or give some two.
    """
    order = np.flatnonzero(lengths)
    order = order[np.argsort(lengths[order], kind="stable")]
    words = np.zeros(lengths.size, np.uint64)
    if order.size:
        longest = int(lengths[order[-1]])
        space = np.left_shift(1, longest - lengths[order])  # of all strings of `longest` bits
        if int(space.sum()) != 1 << longest:
            raise ValueError(
                f"code lengths fill {int(space.sum())} of {1 << longest} strings of {longest} bits"
            )
        words[order] = (np.cumsum(space) - space) >> (longest - lengths[order])
    return Code(lengths, words, order)


def pack(lengths: np.ndarray) -> bytes:
    """The lengths of symbols 0 … A−1 as bytes; the last is not 0. `huffman.py` says how."""
    at = np.flatnonzero(np.diff(lengths, prepend=-1))
    runs = np.diff(at, append=lengths.size).tolist()
    values = lengths[at].tolist()
    last = next(value for value in values if value)
    bits = [f"{last:0{_FIRST}b}"]
    for value, run in zip(values, runs, strict=True):
        if not value:
            bits.append("1110" + _gamma(run))
            continue
        step, last = value - last, value
        if abs(step) == 1:
            bits.append("101" if step < 0 else "100")
        elif step:
            bits.append(f"1111{int(step < 0)}" + _gamma(abs(step) - 1))
        run -= bool(step)
        bits.append("0" * run if run < _RUN else "110" + _gamma(run - _RUN + 1))
    joined = "".join(bits)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big")


def unpack(data: memoryview, alphabet: int) -> tuple[np.ndarray, int]:
    """What `pack` wrote at the start of data: [A] lengths, and how many bytes they took.

    Raises:
      ValueError: data that end early, lengths outside 1 … LIMIT, more symbols than the alphabet.
    """
    read = _Bits(data[: 2 * alphabet + 8])  # a symbol takes at most 14 bits
    last, done, lengths = read.number(_FIRST), 0, np.zeros(alphabet, np.int64)
    if not 1 <= last <= LIMIT:
        raise ValueError(f"code lengths start from {last}, outside 1…{LIMIT}")
    while done < alphabet:
        kind = read.ones(4)
        run, step = 1, 0
        if kind == 1:
            step = -1 if read.number(1) else 1
        elif kind == 2:
            run = read.gamma() + _RUN - 1
        elif kind == 3:
            done += read.gamma()
            continue
        elif kind == 4:
            sign = read.number(1)
            step = (read.gamma() + 1) * (-1 if sign else 1)
        last += step
        if not 1 <= last <= LIMIT:
            raise ValueError(f"code length {last} of symbol {done} is outside 1…{LIMIT}")
        lengths[done : done + run] = last
        done += run
    if done > alphabet or not lengths[-1]:
        raise ValueError(f"code lengths do not end with symbol {alphabet - 1}")
    return lengths, read.bytes()


def _gamma(number: int) -> str:
    """Elias's γ: as many zeros as the number has bits after its first, then the number."""
    return "0" * (number.bit_length() - 1) + f"{number:b}"


class _Bits:
    """A cursor over the bits of bytes, the highest bit of a byte first."""

    def __init__(self, data: memoryview):
        self.bits = np.unpackbits(np.frombuffer(data, np.uint8)).tobytes()
        self.at = 0

    def number(self, bits: int) -> int:
        if self.at + bits > len(self.bits):
            raise ValueError("the data end within the code lengths")
        value = 0
        for bit in self.bits[self.at : self.at + bits]:
            value = 2 * value + bit
        self.at += bits
        return value

    def ones(self, most: int) -> int:
        """How many ones stand here, up to `most`; they and the zero after them are read."""
        found = 0
        while found < most and self.number(1):
            found += 1
        return found

    def gamma(self) -> int:
        zeros = self.bits.find(1, self.at, self.at + 18) - self.at
        if zeros < 0:
            raise ValueError("the data end within the code lengths, or a run exceeds 2^18")
        self.at += zeros
        return self.number(zeros + 1)

    def bytes(self) -> int:
        """Bytes that are read, the last one's remaining bits included, which must be 0."""
        end = -(-self.at // 8)
        if any(self.bits[self.at : 8 * end]):
            raise ValueError("bits after the code lengths are not 0")
        return end
