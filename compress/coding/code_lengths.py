"""Lengths of Huffman codes: the best ones under a limit, their code words, their bits in a file."""

# A alphabet: symbols 0 … A−1; U symbols that occur

from typing import NamedTuple

import numpy as np

LIMIT = 24  # bits of the longest code word in a file
_FIRST = 5  # bits of the first length in a file
_RUN = 8  # equal lengths from which on a run is written as one


def code_lengths(counts: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    """Returns the lengths of the prefix code that spends the fewest bits on these counts.

    Args:
      counts: [A] integers, how often each symbol occurs.
      limit: bits of the longest code word. It binds only if Huffman's tree is deeper.

    Returns:
      [A] int64, in bits; 0 for a symbol that does not occur, and for one that occurs alone.

    Raises:
      ValueError: the counts are not a 1-D array of integers ≥ 0 or add up to 2^56 or more; more
        than 2^limit symbols occur.

    Source: Larmore & Hirschberg, JACM 37 (1990), for the algorithm, package-merge.
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
    """Returns [U] lengths for weights in rising order.

    The items of a level, sorted by weight, are all symbols and the pairs ("packages") of neighbours
    in the level before. The 2 U − 2 lightest items of the last level are taken, and with each
    package its two items of the level before. The length of a symbol is the number of levels in
    which it is taken. The symbols taken are the lightest of each level, so only their number
    matters.
    """
    items, symbols = weights, [np.ones(weights.size, bool)]  # for each level: is the item a symbol
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
    """A canonical code: words of one length are consecutive numbers, and shorter ones are first."""

    lengths: np.ndarray  # [A] int64, bits
    words: np.ndarray  # [A] uint64; 0 where the length is 0
    order: np.ndarray  # [U] int64: the symbols in the order of their words


def canonical(lengths: np.ndarray) -> Code:
    """Returns the canonical code: symbols take words in turn, by length and then by value.

    Raises:
      ValueError: the lengths leave bit strings without a meaning, or give some of them two.
    """
    order = np.flatnonzero(lengths)
    order = order[np.argsort(lengths[order], kind="stable")]
    words = np.zeros(lengths.size, np.uint64)
    if order.size:
        longest = int(lengths[order[-1]])
        space = np.left_shift(1, longest - lengths[order])  # among strings of `longest` bits
        if int(space.sum()) != 1 << longest:
            raise ValueError(
                f"code lengths fill {int(space.sum())} of {1 << longest} strings of {longest} bits"
            )
        words[order] = (np.cumsum(space) - space) >> (longest - lengths[order])
    return Code(lengths, words, order)


def pack(lengths: np.ndarray) -> bytes:
    """Returns the lengths of symbols 0 … A−1, the last not 0, as bytes. See `huffman.py`."""
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
    """Returns [A] lengths that `pack` wrote at the start of the data, and how many bytes they took.

    Raises:
      ValueError: the data end early, a length is outside 1 … LIMIT, or there are more symbols than
        the alphabet has.
    """
    read = _Bits(data[: 2 * alphabet + 8])  # a symbol takes at most 14 bits
    last, done, lengths = read.number(_FIRST), 0, np.zeros(alphabet, np.int64)
    if not 1 <= last <= LIMIT:
        raise ValueError(f"code lengths start from {last}, outside 1…{LIMIT}")
    while done < alphabet:
        kind = read.ones(4)
        if kind == 3:
            done += read.gamma()
            continue
        run = read.gamma() + _RUN - 1 if kind == 2 else 1
        last += _step(read, kind)
        if not 1 <= last <= LIMIT:
            raise ValueError(f"code length {last} of symbol {done} is outside 1…{LIMIT}")
        lengths[done : done + run] = last
        done += run
    if done > alphabet or not lengths[-1]:
        raise ValueError(f"code lengths do not end with symbol {alphabet - 1}")
    return lengths, read.bytes()


def _step(read: "_Bits", kind: int) -> int:
    """Returns by how much a token of this kind changes the length."""
    if kind not in (1, 4):
        return 0
    sign = -1 if read.number(1) else 1
    return sign * (read.gamma() + 1 if kind == 4 else 1)


def _gamma(number: int) -> str:
    """Returns Elias's γ: a zero for each bit of the number after its first, then the number."""
    return "0" * (number.bit_length() - 1) + f"{number:b}"


class _Bits:
    """A cursor over the bits of bytes, the highest bit of a byte first."""

    def __init__(self, data: memoryview) -> None:
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
        """Returns how many ones come next, up to `most`, and reads them and the zero after them."""
        count = 0
        while count < most and self.number(1):
            count += 1
        return count

    def gamma(self) -> int:
        zeros = self.bits.find(1, self.at, self.at + 18) - self.at
        if zeros < 0:
            raise ValueError("the data end within the code lengths, or a run exceeds 2^18")
        self.at += zeros
        return self.number(zeros + 1)

    def bytes(self) -> int:
        """Returns the bytes read so far. The remaining bits of the last one must be 0."""
        end = -(-self.at // 8)
        if any(self.bits[self.at : 8 * end]):
            raise ValueError("bits after the code lengths are not 0")
        return end
