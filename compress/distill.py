"""Distillation: a student learns the softened answers of its teachers beside the labels.

loss = weight × T² × KL(teachers ‖ student), both at temperature T, + (1 − weight) × cross-entropy

T² keeps the size of the gradients of the soft part, which go as 1 / T². KL differs from the
cross-entropy with soft targets, which the paper writes, by the entropy of the teachers. That is
constant, so the gradients are the same, and KL is 0 for a student that is like its teachers. Read
`make_loss` first.

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

from groundwork import trees
from groundwork.numerics import checks
from groundwork.train.losses import CROSS_ENTROPY, Counts, Loss, cross_entropy
from groundwork.train.step import Batch, LossFn, Model
from groundwork.trees import Variables

__all__ = [
    "Teacher",
    "carried",
    "carry",
    "divergence",
    "fixed",
    "make_loss",
    "soften",
    "without_teachers",
]

Mean = Literal["arithmetic", "geometric"]
Teacher = Callable[[Any, jax.Array], jax.Array]
"""(the student's variables, inputs [B, …]) → logits, [K, B, C] or [B, C]."""

TEACHERS = "teachers"  # the collection of the student's variables in which they are carried


def soften(logits: jax.Array, temperature: float, mean: Mean = "arithmetic") -> jax.Array:
    """Returns the answers of an ensemble at a temperature: log-probabilities [B, C].

    Args:
      logits: [K, B, C], or [B, C] of one teacher.
      temperature: T > 0, which divides the logits.
      mean: `arithmetic`, over the teachers' probabilities at T; or `geometric`, which is the mean
        of their logits.

    Raises:
      ValueError: the logits have another number of axes or no teacher, the temperature is not
        positive and finite, or the mean is unknown.

    Source: Hinton et al., arXiv:1503.02531, Section 1 ("an arithmetic or geometric mean").

    Example:
        >>> from compress import distill
        >>> logits = jnp.log(jnp.array([[1.0, 9.0]]))
        >>> for temperature in (1.0, 2.0):  # at T = 2, odds of 9 become odds of 3
        ...     print(np.exp(distill.soften(logits, temperature)).astype(float).round(3))
        [[0.1 0.9]]
        [[0.25 0.75]]
    """
    checks.name("mean", mean, get_args(Mean))
    _check_temperature(temperature)
    if logits.ndim not in (2, 3) or not logits.shape[0]:
        raise ValueError(f"teachers' logits must be [K, B, C] or [B, C], not {logits.shape}")
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    logits = (logits if logits.ndim == 3 else logits[None]) / temperature
    if mean == "geometric":
        return jax.nn.log_softmax(jnp.mean(logits, 0))
    answers = jax.nn.log_softmax(logits)
    return jax.nn.logsumexp(answers, 0) - math.log(len(answers))


def divergence(logits: jax.Array, target: jax.Array, temperature: float) -> jax.Array:
    """Returns T² × KL(target ‖ student at temperature T) for each example: [B], in nats.

    As T grows it becomes Σ (z − v)² / 2C, where z and v are the logits of student and teacher, each
    less its mean over the classes. In float32 the rounding error grows as T² (1e-3 at T = 100), and
    that of the gradient as T.

    Args:
      logits: of the student, [B, C].
      target: log-probabilities [B, C] at the same temperature, as `soften` gives them.
      temperature: T > 0.

    Raises:
      ValueError: the temperature is not positive and finite, or the shapes differ.

    Example:
        >>> from compress import distill
        >>> undecided = distill.soften(jnp.zeros((2, 2)), 1.0)  # a teacher, about two examples
        >>> logits = jnp.log(jnp.array([[1.0, 1.0], [1.0, 3.0]]))
        >>> apart = distill.divergence(logits, undecided, 1.0)  # 0, and ½ log(½ / ¼) + ½ log(½ / ¾)
        >>> [round(float(nats), 3) for nats in apart]
        [0.0, 0.144]
    """
    _check_temperature(temperature)
    if logits.shape != target.shape:
        raise ValueError(f"the student's logits are {logits.shape}, its teachers' {target.shape}")
    dtype = jnp.promote_types(logits.dtype, target.dtype)
    student = jax.nn.log_softmax(logits.astype(dtype) / temperature)
    return temperature**2 * jnp.sum(jnp.exp(target) * (target - student), -1)


def make_loss(
    student: Model,
    teacher: Teacher,
    *,
    temperature: float,
    weight: float,
    mean: Mean = "arithmetic",
    objective: Loss | None = None,
) -> LossFn:
    """Returns the loss of a student, for `programs.make(loss=…)` and for any training step.

    It is the mean over the valid examples of a batch, of one replicate and of one device's share,
    as in `step.make_loss`; whoever maps that maps this. Its counts are those of the plain
    cross-entropy, so that rows compare with those of a student without a teacher, and with
    evaluation. A dense student needs `form="single"` on the CPU if XLA computes its teachers'
    convolutions there.

    Args:
      student: the network to train: a module, the network of any other stage, or any network as
        `architectures.own.of` gives it. Its logits are [B, C], or [B, …, C], such as those of a
        language model, where each token or pixel counts as an example.
      teacher: `fixed` or `carried`, or any such function. Its answers are not differentiated.
      temperature: T > 0 of both; the paper tried 1 to 20.
      weight: share of the soft part in [0, 1]. At 0 the loss is exactly the plain cross-entropy,
        and no teacher is asked; at 1 it sees no label.
      mean: as for `soften`.
      objective: the hard part, which counts the examples; by default the cross-entropy. Tokens
        with a negative label do not count in either part.

    Raises:
      ValueError: the temperature, weight or mean is invalid; when traced, the teachers have other
        classes.

    Example:
        >>> from compress import distill
        >>> from groundwork.architectures import own
        >>> from groundwork.train.step import Batch
        >>> network = own.of(lambda params, inputs: inputs * params)
        >>> teacher = distill.fixed((network, {"params": jnp.ones(1)}))
        >>> batch = Batch(jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([1]), jnp.array([True]))
        >>> for weight in (0.0, 1.0):  # −log ¾ of the label alone; nothing of a teacher who agrees
        ...     loss = distill.make_loss(network, teacher, temperature=2.0, weight=weight)
        ...     print(round(float(loss(jax.random.key(0), {"params": 1.0}, batch)[0]), 3))
        0.288
        0.0
    """
    _check_temperature(temperature)
    checks.name("mean", mean, get_args(Mean))
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {weight} is outside [0, 1]")

    def loss_fn(
        key: jax.Array, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, tuple[Variables, Counts]]:
        logits, updated = student.apply(
            without_teachers(variables),
            batch.inputs,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        hard_part = objective or (CROSS_ENTROPY if logits.ndim == 2 else cross_entropy(tokens=True))
        counts = hard_part.count(logits, batch.labels, batch.valid)
        examples = jnp.maximum(counts.examples, 1) if hard_part.uneven else counts.examples
        hard = counts.loss / examples
        if not weight:
            return hard, (updated, counts)
        answers = _for_each_example(lax.stop_gradient(teacher(variables, batch.inputs)), logits)
        target = soften(answers, temperature, mean)
        rows = divergence(logits.reshape(target.shape), target, temperature)
        divergences = rows.reshape(logits.shape[:-1])
        counted = batch.valid
        if logits.ndim > 2:
            counted = counted.reshape(-1, *(1,) * (logits.ndim - 2)) & (batch.labels >= 0)
        soft = jnp.sum(jnp.where(counted, divergences, 0.0)) / examples
        loss = soft if weight == 1 else weight * soft + (1 - weight) * hard
        return loss, (updated, counts)

    return loss_fn


def _for_each_example(answers: jax.Array, logits: jax.Array) -> jax.Array:
    """Returns teachers' logits as [K, examples, C], where tokens or pixels are examples."""
    runs = len(answers) if answers.ndim > logits.ndim else 1
    if answers.shape[answers.ndim > logits.ndim :] != logits.shape:
        raise ValueError(f"the student's logits are {logits.shape}, its teachers' {answers.shape}")
    return answers.reshape(runs, -1, logits.shape[-1])


def fixed(*teachers: tuple[Model, Any]) -> Teacher:
    """Returns teachers whose variables are constants of the compiled step. For small ones.

    Args:
      *teachers: networks of any architecture, each with the variables of its runs: leaves [K, …],
        such as the replicates of a run, which `groundwork.runs.trained.load` gives.

    Raises:
      ValueError: there is no teacher, or leaves do not share a leading axis.

    Example:
        >>> from compress import distill
        >>> from groundwork.architectures import own
        >>> network = own.of(lambda params, inputs: inputs * params)
        >>> teacher = distill.fixed((network, {"params": jnp.array([1.0, 10.0])}))  # two runs of it
        >>> teacher({}, jnp.array([[2.0, 3.0]])).tolist()
        [[[2.0, 3.0]], [[20.0, 30.0]]]
    """
    if not teachers:
        raise ValueError("there is no teacher")
    models = [model for model, _ in teachers]
    # As numpy, since an array of a device would tie the step to that device.
    constants = [jax.tree.map(np.asarray, variables) for _, variables in teachers]
    for variables in constants:
        _runs(variables)
    return lambda variables, inputs: _answers(models, constants, inputs)


def carry(variables: Mapping[str, Any], *teachers: Any) -> dict[str, Any]:
    """Returns the student's variables with those of its teachers as one more collection.

    Nothing changes this collection. It travels in the training state, so that other teachers
    compile nothing, and each replicate may have its own. The state and its checkpoints grow by it.

    Args:
      variables: of the student.
      *teachers: variables of each network, in the order given to `carried`: leaves [K, …], or
        [R, K, …] if the student's have an axis of replicates.

    Example:
        >>> from compress import distill
        >>> student, teacher = {"params": {"w": jnp.zeros(3)}}, {"params": {"w": jnp.ones((1, 5))}}
        >>> both = distill.carry(student, teacher)
        >>> jax.tree.map(jnp.shape, both)
        {'params': {'w': (3,)}, 'teachers': {'0': {'params': {'w': (1, 5)}}}}
    """
    return {**variables, TEACHERS: {str(number): tree for number, tree in enumerate(teachers)}}


def carried(*models: Model) -> Teacher:
    """Returns teachers whose variables are among the student's: see `carry`. For large ones.

    The teacher raises, when traced:
      ValueError: the variables have no teachers, or another number of them.

    Example:
        >>> from compress import distill
        >>> from groundwork.architectures import own
        >>> teacher = distill.carried(own.of(lambda params, inputs: inputs * params))
        >>> variables = distill.carry({"params": jnp.zeros(1)}, {"params": jnp.array([10.0])})
        >>> teacher(variables, jnp.array([[2.0, 3.0]])).tolist()  # [runs, examples, classes]
        [[[20.0, 30.0]]]
    """

    def teacher(variables: Variables, inputs: jax.Array) -> jax.Array:
        carried = variables.get(TEACHERS, {})
        if len(carried) != len(models) or not models:
            raise ValueError(
                f"the variables carry {len(carried)} teachers, not {len(models)}: see distill.carry"
            )
        return _answers(models, [carried[str(number)] for number in range(len(carried))], inputs)

    return teacher


def without_teachers(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of the student alone.

    Example:
        >>> from compress import distill
        >>> both = distill.carry({"params": jnp.zeros(1)}, {"params": jnp.ones(1)})
        >>> sorted(both), sorted(distill.without_teachers(both))
        (['params', 'teachers'], ['params'])
    """
    return {name: tree for name, tree in variables.items() if name != TEACHERS}


def _answers(models: Sequence[Model], variables: Sequence[Any], inputs: jax.Array) -> jax.Array:
    """Returns the logits [K, B, C] of all runs of all teachers, in evaluation.

    They are computed one after another, since mapped convolutions would become grouped ones, which
    are slow on the CPU.
    """
    logits = [
        model.apply(trees.replicate(tree, run), inputs, train=False)
        for model, tree in zip(models, variables, strict=True)
        for run in range(_runs(tree))
    ]
    shapes = {answers.shape for answers in logits}
    if len(shapes) > 1:
        raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
    return jnp.stack(logits)


def _runs(variables: Any) -> int:
    """Returns K, the length of the leaves' leading axis."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(variables)}
    if len(lengths) == 1 and all(length and length[0] for length in lengths):
        return lengths.pop()[0]
    raise ValueError(
        f"a teacher's variables need one leading axis, of its runs: found {sorted(lengths)}"
    )


def _check_temperature(temperature: float) -> None:
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature {temperature} must be positive and finite")
