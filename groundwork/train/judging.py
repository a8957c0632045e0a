"""What networks are judged by that is no sum over examples, such as mean average precision.

Read `losses.Judge` first, and then `make`.
"""

# R replicates, N examples of a split, E examples that are kept

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from groundwork.data.dataset import AnyDataset, Dataset
from groundwork.train import outputs as outputs_lib
from groundwork.train.losses import Judge
from groundwork.train.replicates import Form
from groundwork.train.step import Model
from groundwork.trees import Variables

JUDGED = "judged"  # in the metadata of a unit: name → split → [R] numbers
SHOWN = "shown"  # in its tree: inputs, targets and answers of a few test examples
EXAMPLES = 6  # that are kept


class Judged(NamedTuple):
    """What a unit keeps of a judgement; both are empty where the loss of a run has no judge."""

    metadata: Mapping[str, Any] = {}
    tree: Mapping[str, Any] = {}

    @property
    def words(self) -> str:
        """The test values in words, such as `, mean average precision 0.8012`; or nothing."""
        values = self.metadata.get(JUDGED, {})
        tests = {name: splits["test"] for name, splits in values.items() if "test" in splits}
        means = {name: float(np.mean(each)) for name, each in tests.items()}
        return "".join(f", {name.replace('_', ' ')} {mean:.4f}" for name, mean in means.items())


def of_unit(tree: Mapping[str, Any], metadata: Mapping[str, Any]) -> Judged:
    """Returns what a finished unit has kept of a judgement."""
    return Judged(
        {JUDGED: metadata[JUDGED]} if JUDGED in metadata else {},
        {SHOWN: tree[SHOWN]} if SHOWN in tree else {},
    )


def make(
    model: Model, judge: Judge, dataset: AnyDataset, mesh: Mesh, form: Form
) -> Callable[[Variables], Judged]:
    """Returns variables [R, …] → how the networks do on all splits but the training examples.

    All processes must call it.
    """
    answers_of = outputs_lib.make(model, dataset, mesh, form, answer=judge.answer)

    def judged(variables: Variables) -> Judged:
        values: dict[str, dict[str, list[float]]] = {}
        tree: Mapping[str, Any] = {}
        for split in ("validation", "test"):
            if not dataset.examples[split]:
                continue
            answers, targets = answers_of(variables, split)
            for one in _of_replicates(answers):
                for name, value in judge.score(one, targets).items():
                    values.setdefault(name, {}).setdefault(split, []).append(float(value))
            if split == "test" and isinstance(dataset, Dataset):
                first = next(_of_replicates(answers))
                kept = {"inputs": dataset.test.inputs, "targets": targets, "answers": first}
                tree = {SHOWN: jax.tree.map(lambda leaf: np.asarray(leaf[:EXAMPLES]), kept)}
        return Judged({JUDGED: values}, tree)

    return judged


def _of_replicates(answers: Any) -> Any:
    """Yields the answers of each replicate, leaves [N, …]."""
    for r in range(len(jax.tree.leaves(answers)[0])):
        yield jax.tree.map(lambda leaf, r=r: leaf[r], answers)
