"""Distillation: a student learns the softened answers of its teachers beside the labels.

loss = weight × T² × KL(teachers ‖ student), both at temperature T, + (1 − weight) × cross-entropy

T² keeps the size of the soft part's gradients, which go as 1 / T². KL differs by the teachers'
entropy, which is constant, from the cross-entropy with soft targets that the paper writes: it has
the same gradients, and is 0 where the student is like its teachers. Read `make_loss` first;
`shrink` makes a student of a wider network.

Source: Hinton, Vinyals & Dean, arXiv:1503.02531, Section 2.
"""

# B batch, C classes, K teachers

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from groundwork.numerics import checks
from groundwork.train.step import LossFn, Model, count
from pruning.structured.chain import Link, chain, shrink

__all__ = [
    "Link",
    "Teacher",
    "carried",
    "carry",
    "chain",
    "divergence",
    "fixed",
    "make_loss",
    "shrink",
    "soften",
    "without_teachers",
]

Mean = Literal["arithmetic", "geometric"]
Teacher = Callable[[Any, jax.Array], jax.Array]
"""(the student's variables, inputs [B, …]) → logits, [K, B, C] or [B, C]."""

TEACHERS = "teachers"  # collection of the student's variables, where they are carried


def soften(logits: jax.Array, temperature: float, mean: Mean = "arithmetic") -> jax.Array:
    """What an ensemble answers at a temperature: log-probabilities [B, C].

    Args:
      logits: [K, B, C]; of one teacher [B, C].
      temperature: T > 0, by which logits are divided.
      mean: `arithmetic`, of the teachers' probabilities at T; or `geometric`, which is that of
        their logits.

    Raises:
      ValueError: another number of axes, no teacher, a temperature that is not positive and finite,
        an unknown mean.

    Source: Hinton et al., Section 1 ("an arithmetic or geometric mean").
    """
    checks.name("mean", mean, get_args(Mean))
    _check_temperature(temperature)
    if logits.ndim not in (2, 3) or not logits.shape[0]:
        raise ValueError(f"teachers' logits must be [K, B, C] or [B, C], not {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    logits = (logits if logits.ndim == 3 else logits[None]) / temperature
    if mean == "geometric":
        return jax.nn.log_softmax(jnp.mean(logits, 0))
    each = jax.nn.log_softmax(logits)
    return jax.nn.logsumexp(each, 0) - math.log(len(each))


def divergence(logits: jax.Array, target: jax.Array, temperature: float) -> jax.Array:
    """T² × KL(target ‖ student at temperature T), an example an entry: [B], in nats.

    As T grows it becomes Σ (z − v)² / 2C of the logits z and v of student and teacher, each less
    its mean over the classes. In float32 its rounding grows as T²: 1e-3 at T = 100; its gradient's
    as T.

    Args:
      logits: of the student, [B, C].
      target: log-probabilities [B, C] at the same temperature, as `soften` gives them.
      temperature: T > 0.

    Raises:
      ValueError: a temperature that is not positive and finite, or other shapes.
    """
    _check_temperature(temperature)
    if logits.shape != target.shape:
        raise ValueError(f"the student's logits are {logits.shape}, its teachers' {target.shape}")
    dtype = jnp.promote_types(logits.dtype, target.dtype)
    own = jax.nn.log_softmax(logits.astype(dtype) / temperature)
    return temperature**2 * jnp.sum(jnp.exp(target) * (target - own), -1)


def make_loss(
    student: Model,
    teacher: Teacher,
    *,
    temperature: float,
    weight: float,
    mean: Mean = "arithmetic",
) -> LossFn:
    """The loss of a student for `programs.make(loss=…)`, and for any training step.

    The mean over a batch's valid examples, of one replicate and of one device's share, as
    `step.make_loss`; mapped by whoever maps that. Counts are the plain cross-entropy's,
    so that rows compare with those of a student without a teacher, and with evaluation. A dense
    student of teachers whose convolutions XLA computes on the CPU needs `form="single"` there.

    Args:
      student: what is trained: a module, or a `surgery.Network` of any other stage.
      teacher: `fixed` or `carried`, or any such function. Nothing it gives is differentiated.
      temperature: T > 0 of both; the paper tried 1 to 20.
      weight: share of the soft part in [0, 1]; 0 is plain cross-entropy, exactly, and asks no
        teacher; 1 sees no label.
      mean: as `soften` has it.

    Raises:
      ValueError: a temperature, weight or mean that cannot be; when traced, teachers of other
        classes.
    """
    _check_temperature(temperature)
    checks.name("mean", mean, get_args(Mean))
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight} is outside [0, 1]")

    def loss_fn(key, variables, batch):
        logits, updated = student.apply(
            without_teachers(variables),
            batch.inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        counts = count(logits, batch.labels, batch.valid)
        hard = counts.loss / counts.examples
        if not weight:
            return hard, (updated, counts)
        target = soften(lax.stop_gradient(teacher(variables, batch.inputs)), temperature, mean)
        apart = jnp.where(batch.valid, divergence(logits, target, temperature), 0.0)
        soft = jnp.sum(apart) / counts.examples
        loss = soft if weight == 1 else weight * soft + (1 - weight) * hard
        return loss, (updated, counts)

    return loss_fn


def fixed(*teachers: tuple[Model, Any]) -> Teacher:
    """Teachers whose variables are constants of the compiled step: for small ones.

    Args:
      *teachers: networks, of any architectures, each with the variables of its runs: leaves [K, …],
        such as the replicates of a run as `groundwork.runs.trained.load` gives them.

    Raises:
      ValueError: no teacher, or leaves that do not share a leading axis.
    """
    if not teachers:
        raise ValueError("there is no teacher")
    models = [model for model, _ in teachers]
    # numpy: a device's array would tie the step to that device
    constants = [jax.tree.map(np.asarray, variables) for _, variables in teachers]
    for variables in constants:
        _runs(variables)
    return lambda variables, inputs: _answers(models, constants, inputs)


def carry(variables: Mapping[str, Any], *teachers: Any) -> dict[str, Any]:
    """The student's variables with its teachers' as one more collection, which nothing changes.

    They travel in the training state, so that other teachers compile nothing, and each replicate
    may have its own. The state grows by them, and so do its checkpoints.

    Args:
      variables: of the student.
      *teachers: variables of each network, in the order of `carried`'s: leaves [K, …], with the
        replicate axis before it where the student's have one, [R, K, …].
    """
    return {**variables, TEACHERS: {str(number): tree for number, tree in enumerate(teachers)}}


def carried(*models: Model) -> Teacher:
    """Teachers whose variables are among the student's: see `carry`. For large ones.

    The teacher raises, when traced:
      ValueError: the variables have no teachers, or another number of them.
    """

    def teacher(variables, inputs):
        found = variables.get(TEACHERS, {})
        if len(found) != len(models) or not models:
            raise ValueError(
                f"the variables carry {len(found)} teachers, not {len(models)}: see distill.carry"
            )
        return _answers(models, [found[str(number)] for number in range(len(found))], inputs)

    return teacher


def without_teachers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """The student's own variables."""
    return {name: tree for name, tree in variables.items() if name != TEACHERS}


def _answers(models: Sequence[Model], variables: Sequence[Any], inputs: jax.Array) -> jax.Array:
    """Logits [K, B, C] of all runs of all teachers, in evaluation.

    One after the other: mapped convolutions would become grouped ones, which are slow on the CPU.
    """
    found = []
    for model, tree in zip(models, variables, strict=True):
        for run in range(_runs(tree)):
            own = jax.tree.map(lambda leaf, run=run: leaf[run], tree)
            found.append(model.apply(own, inputs, train=False))
    shapes = {logits.shape for logits in found}
    if len(shapes) > 1:
        raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
    return jnp.stack(found)


def _runs(variables: Any) -> int:
    """K, the length of the leaves' leading axis."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(variables)}
    if len(lengths) == 1 and all(length and length[0] for length in lengths):
        return lengths.pop()[0]
    raise ValueError(
        f"a teacher's variables need one leading axis, of its runs: found {sorted(lengths)}"
    )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature {temperature} must be positive and finite")
