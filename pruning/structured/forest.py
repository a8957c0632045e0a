"""Which entries of a network's arrays must be removed together: classes of ids that are joined."""

import numpy as np

Ids = np.ndarray  # of int64
FIXED = 0  # what `Forest.classes` calls every class that stays


class Forest:
    """Disjoint sets of ids. A set stays as a whole once a reason is given for one id of it.

    Attributes:
      changes: how often two sets have been joined so far.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._size = 0
        self._parents = np.zeros(1024, np.int64)
        self._reasons = np.zeros(1024, np.int32)  # of roots: 1 + its place in `_texts`, or 0
        self._texts: list[str] = []
        self._of_text: dict[str, int] = {}  # reason → an id that stays for it
        self.fixed(1, "")  # the id FIXED

    def copy(self) -> "Forest":
        """Returns a forest of the same ids, which changes by itself."""
        other = Forest()
        other.changes, other._size = self.changes, self._size
        other._parents, other._reasons = self._parents.copy(), self._reasons.copy()
        other._texts, other._of_text = list(self._texts), dict(self._of_text)
        return other

    @property
    def size(self) -> int:
        """The number of ids."""
        return self._size

    def new(self, count: int) -> Ids:
        """Returns ids of sets of one."""
        first, self._size = self._size, self._size + count
        while self._size > len(self._parents):
            self._parents = np.concatenate([self._parents, np.zeros_like(self._parents)])
            self._reasons = np.concatenate([self._reasons, np.zeros_like(self._reasons)])
        self._parents[first : self._size] = np.arange(first, self._size)
        return np.arange(first, self._size)

    def fixed(self, count: int, reason: str) -> Ids:
        """Returns one id, `count` times, of a set that stays for this reason."""
        if reason not in self._of_text:
            (made,) = self.new(1)
            self._texts.append(reason)
            self._reasons[made] = len(self._texts)
            self._of_text[reason] = int(made)
        return np.full(count, self._of_text[reason])

    def roots(self, ids: Ids) -> Ids:
        """Returns the id that stands for the set of each id."""
        roots = self._parents[ids]
        while not np.array_equal(roots, above := self._parents[roots]):
            roots = above
        self._parents[ids] = roots
        return roots

    def classes(self, ids: Ids) -> Ids:
        """Returns `roots`, with `FIXED` for every set that stays."""
        roots = self.roots(ids)
        return np.where(self._reasons[roots] > 0, FIXED, roots)

    def free(self, ids: Ids) -> np.ndarray:
        """Returns of each id whether its set may be removed."""
        return self._reasons[self.roots(ids)] == 0

    def reason(self, number: int) -> str:
        """Returns why the set of an id stays; "" if it may be removed."""
        (root,) = self.roots(np.array([number]))
        return self._texts[self._reasons[root] - 1] if self._reasons[root] else ""

    def join(self, some: Ids, others: Ids) -> None:
        """Joins the set of each of `some` with that of its partner; two that stay, stay apart."""
        differ = self.classes(some) != self.classes(others)
        for one, other in set(zip(some[differ].tolist(), others[differ].tolist(), strict=True)):
            self._join(one, other)

    def fix(self, ids: Ids, reason: str) -> None:
        """Says that the sets of these ids stay, for a reason."""
        free = ids[self.free(ids)]
        if free.size:
            self.join(free, self.fixed(free.size, reason))

    def _join(self, one: int, other: int) -> None:
        one, other = map(int, self.roots(np.array([one, other])))
        if one == other or (self._reasons[one] and self._reasons[other]):
            return
        root = min(one, other)
        self._parents[[one, other]] = root
        self._reasons[root] = max(self._reasons[one], self._reasons[other])
        self.changes += 1
