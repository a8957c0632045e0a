"""Which entries of a network's arrays must be removed together: classes of ids that are joined."""

import numpy as np

Ids = np.ndarray  # of int64
FIXED = 0  # what `Forest.classes` calls every class that stays


class Forest:
    """Disjoint sets of ids. A set stays as a whole once a reason is given for one id of it.

    Attributes:
      changes: grows whenever sets are joined.
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
        if (self._parents[some] == self._parents[others]).all():  # mostly so in later turns
            return
        while True:
            one, other = self.roots(some), self.roots(others)
            stay, stays = self._reasons[one] > 0, self._reasons[other] > 0
            if not (differ := (one != other) & ~(stay & stays)).any():
                return
            low, high = np.minimum(one, other), np.maximum(one, other)
            if (half := differ & (stay ^ stays)).any():  # what stays takes the other one
                low, high, differ = np.where(stay, one, other), np.where(stay, other, one), half
            some, others = one, other
            self._parents[high[differ]] = low[differ]
            self.changes += 1

    def fix(self, ids: Ids, reason: str) -> None:
        """Says that the sets of these ids stay, for a reason."""
        free = ids[self.free(ids)]
        if free.size:
            self.join(free, self.fixed(free.size, reason))
