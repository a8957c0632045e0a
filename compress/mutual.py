"""Mutual learning: students without a teacher, who learn from each other's answers from scratch.

loss of student i = cross-entropy + the mean over all others j of KL(p_j ‖ p_i)

Nothing flows back through the answers of the others, so the gradient of the sum of all losses is
that of each student's own loss. Read `make_loss` first.

Source: Zhang, Xiang, Hospedales & Lu, arXiv:1706.00384, equations 4, 6 and 8. Departs: all students
learn at once, each from what the others answered before the step; the paper updates one after
another, and asks the others again in between.
"""

# B batch, C classes

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from compress import distill
from groundwork.traced.network import Network
from groundwork.train.losses import CROSS_ENTROPY, Counts, Loss
from groundwork.train.step import Batch, LossFn, Model
from groundwork.trees import Variables

__all__ = ["join", "make_loss", "student", "together"]


def join(*variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of students as one tree: collection → number of the student → tree.

    Args:
      *variables: of each student, which have the same collections; any leading axes.

    Raises:
      ValueError: there are fewer than two students, or their collections differ.

    Example:
        >>> from compress import mutual
        >>> both = mutual.join({"params": jnp.zeros(2)}, {"params": jnp.ones(2)})
        >>> {number: params.tolist() for number, params in both["params"].items()}
        {'0': [0.0, 0.0], '1': [1.0, 1.0]}
    """
    if len(variables) < 2:
        raise ValueError(f"{len(variables)} students cannot teach each other: it takes two")
    if any(one.keys() != variables[0].keys() for one in variables):
        raise ValueError(f"the students' collections differ: {[sorted(one) for one in variables]}")
    return {name: {str(n): v[name] for n, v in enumerate(variables)} for name in variables[0]}


def student(variables: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Returns the variables of one student, from 0, of those that `join` returns.

    Example:
        >>> from compress import mutual
        >>> both = mutual.join({"params": jnp.zeros(2)}, {"params": jnp.ones(2)})
        >>> mutual.student(both, 1)["params"].tolist()
        [1.0, 1.0]
    """
    return {name: each[str(number)] for name, each in variables.items()}


def together(model: Model) -> Network:
    """Returns the network of joined variables, for evaluation: the answers of the first student.

    Example:
        >>> from compress import mutual
        >>> from groundwork.architectures import own
        >>> network = mutual.together(own.of(lambda params, inputs: inputs * params))
        >>> both = mutual.join({"params": jnp.float32(2)}, {"params": jnp.float32(5)})
        >>> network.apply(both, jnp.ones((1, 3))).tolist()  # of the first one
        [[2.0, 2.0, 2.0]]
    """

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return model.apply(student(variables, 0), inputs, *args, **kwargs)

    return Network(model.init, apply)


def make_loss(model: Model, students: int, objective: Loss = CROSS_ENTROPY) -> LossFn:
    """Returns the sum of the students' losses, for `programs.make(loss=…)` or any training step.

    Its variables are joined ones. It is the mean over the valid examples of a batch, as in
    `step.make_loss`; its counts are those of the first student's cross-entropy. Students see the
    same batch, draw their own random numbers, and update their own batch statistics. They are
    computed one after another, since mapped convolutions are slow on the CPU.

    Args:
      model: the network of each student. Its logits are [B, C].
      students: how many there are, 2 or more.
      objective: the part of the labels, which counts the examples.

    Raises:
      ValueError: there are fewer than two students; when traced, the logits have other axes.

    Example:
        >>> from compress import mutual
        >>> from groundwork.architectures import own
        >>> from groundwork.train.step import Batch
        >>> loss = mutual.make_loss(own.of(lambda params, inputs: inputs * params), students=2)
        >>> batch = Batch(jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([1]), jnp.array([True]))
        >>> for other in (1.0, -1.0):  # 2 log(4/3); then log(4/3) + log 4, and twice ½ log 3
        ...     both = mutual.join({"params": jnp.float32(1)}, {"params": jnp.float32(other)})
        ...     print(round(float(loss(jax.random.key(0), both, batch)[0]), 3))
        0.575
        2.773
    """
    if students < 2:
        raise ValueError(f"students={students} cannot teach each other: it takes two")

    def loss_fn(
        key: jax.Array, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, tuple[Variables, Counts]]:
        logits, states = [], []
        for number in range(students):
            answers, updated = model.apply(
                student(variables, number),
                batch.inputs,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(key, number)},
            )
            if answers.ndim != 2:
                raise ValueError(f"the students' logits must be [B, C], not {answers.shape}")
            logits.append(answers)
            states.append({name: tree for name, tree in updated.items() if name in variables})
        counts = [objective.count(answers, batch.labels, batch.valid) for answers in logits]
        targets = [distill.soften(lax.stop_gradient(answers), 1.0) for answers in logits]
        total = jnp.float32(0)
        for number, answers in enumerate(logits):
            others = [target for other, target in enumerate(targets) if other != number]
            apart = sum(distill.divergence(answers, target, 1.0) for target in others)
            soft = jnp.sum(jnp.where(batch.valid, apart, 0.0)) / len(others)
            total += (counts[number].loss + soft) / counts[number].examples
        return total, (join(*states), counts[0])

    return loss_fn
