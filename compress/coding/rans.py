"""Binary rANS in lanes that run side by side: bits and their probabilities to bytes, and back.

Each lane is a coder of its own, an integer x in [2^16, 2^32), and all lanes take 16-bit words from
one sequence. Lanes bring speed, since one call of numpy serves all of them. What they cost is kept
small in two ways: the states that a decoder begins with have as many bits as they need, and where
fewer lanes go on (`narrow`), the low 16 bits of the others' last states are the next words.

Source: Duda, arXiv:1311.2540; Giesen, arXiv:1402.3392, for lanes with one sequence of words.
Departs: the words within final states.
"""

# L lanes, n ≤ L of them in a step

import numpy as np

PRECISION = 16  # bits of a probability
ONE = 1 << PRECISION
LOW = 1 << 16  # the least state
_WORD = 0xFFFF
_LENGTH = 4  # bits that say how long a state is


class Writer:
    """Takes bits in a decoder's order, and encodes them backwards at the end."""

    def __init__(self, lanes: int) -> None:
        self.lanes = [lanes]
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []
        self.narrowed = 0  # steps before fewer lanes go on

    def code(self, chances: np.ndarray, bits: np.ndarray | None) -> np.ndarray:
        """Takes [n] bits of the first n lanes, and returns them.

        Args:
          chances: [n] int64, of a one, in 1/65,536: 1 … 65,535.
          bits: [n] bool.
        """
        assert bits is not None
        self.steps.append((chances.astype(np.uint16), bits))
        return bits

    def narrow(self, lanes: int) -> None:
        """Lets only the first lanes go on. It is called once at most."""
        self.lanes.append(lanes)
        self.narrowed = len(self.steps)

    def bytes(self) -> bytes:
        """Returns all bits: the states of the lanes, filled up with zeros to bytes, and words."""
        state = np.full(self.lanes[-1], LOW, np.int64)
        words: list[np.ndarray] = [np.zeros(0, np.int64)]  # from the last to the first
        self._backwards(self.steps[self.narrowed :], state, words)
        if more := self.lanes[0] - state.size:
            queue = np.concatenate(words)[::-1]
            held = np.zeros(more, np.int64)
            held[: queue.size] = queue[:more]
            state, words = np.append(state, LOW + held), [queue[more:][::-1]]
        self._backwards(self.steps[: self.narrowed], state, words)
        return _to_bytes(state) + np.concatenate(words)[::-1].astype("<u2").tobytes()

    @staticmethod
    def _backwards(
        steps: list[tuple[np.ndarray, np.ndarray]], state: np.ndarray, words: list[np.ndarray]
    ) -> None:
        """Adds the bits of steps to the states, and what leaves these to the words."""
        for chances, bits in reversed(steps):
            chances = chances.astype(np.int64)
            shares = np.where(bits, chances, ONE - chances)
            part = state[: shares.size]
            full = (part >= shares << 16).nonzero()[0]
            if full.size:
                words.append(part[full[::-1]] & _WORD)
                part[full] >>= 16
            whole, rest = np.divmod(part, shares)
            part[:] = (whole << PRECISION) + rest + np.where(bits, 0, chances)


class Reader:
    """Gives bits back in the order in which a `Writer` took them."""

    def __init__(self, data: memoryview, lanes: int) -> None:
        """Raises ValueError if the data end within the states or a word."""
        self.state, end = _from_bytes(data, lanes)
        if (len(data) - end) % 2:
            raise ValueError("the data end within a word")
        self.words = np.frombuffer(data[end:], "<u2").astype(np.int64)
        self.at = self.held = 0

    def code(self, chances: np.ndarray, bits: np.ndarray | None = None) -> np.ndarray:
        """Returns [n] bool, the next bits of the first n lanes, which have these chances.

        Raises:
          ValueError: the data end early.
        """
        state = self.state[: chances.size]
        slots = state & (ONE - 1)
        ones = slots < chances
        state >>= PRECISION
        state *= np.where(ones, chances, ONE - chances)
        state += np.where(ones, slots, slots - chances)
        empty = (state < LOW).nonzero()[0]
        if empty.size:
            end = self.at + empty.size
            if end > self.words.size:
                raise ValueError("the data end before the last symbol")
            state[empty] = (state[empty] << 16) | self.words[self.at : end]
            self.at = end
        return ones

    def narrow(self, lanes: int) -> None:
        """Lets only the first lanes go on.

        Raises:
          ValueError: another one does not end with a word.
        """
        held = self.state[lanes:] - LOW
        if (held >= LOW).any():
            raise ValueError("a lane does not end with a word")
        self.state = self.state[:lanes].copy()
        self.words, self.at, self.held = np.append(held, self.words[self.at :]), 0, held.size

    def end(self) -> None:
        """Checks that all has been read.

        Raises:
          ValueError: the data go on, or the lanes do not end as they were begun.
        """
        left = self.words[self.at :]
        if (self.state != LOW).any() or left.any() or left.size > max(self.held - self.at, 0):
            raise ValueError("the data do not end with the last symbol")


def _to_bytes(state: np.ndarray) -> bytes:
    """Returns states: of each, in 4 bits, how many bits it has above 17, and all but its first."""
    text = [f"{value:b}" for value in state.tolist()]
    joined = "".join(f"{len(bits) - 17:0{_LENGTH}b}{bits[1:]}" for bits in text)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big")


def _from_bytes(data: memoryview, lanes: int) -> tuple[np.ndarray, int]:
    """Returns [L] states, and the byte after them."""
    held = bytes(data[: -(-36 * lanes // 8)])
    bits = np.unpackbits(np.frombuffer(held, np.uint8)).tobytes().translate(_DIGITS).decode()
    at, state = 0, np.zeros(lanes, np.int64)
    for lane in range(lanes):
        begin = at + _LENGTH
        at = begin + 16 + int(bits[at:begin] or "0", 2)
        if at > len(bits):
            raise ValueError("the data end within the states")
        state[lane] = int("1" + bits[begin:at], 2)
    end = -(-at // 8)
    if "1" in bits[at : 8 * end]:
        raise ValueError("bits after the states are not 0")
    return state, end


_DIGITS = bytes.maketrans(b"\0\1", b"01")
