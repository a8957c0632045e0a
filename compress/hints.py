"""Hints: a layer of the student learns to be given what a layer of its teacher is given.

loss = ½ × the mean over examples, places and channels of (regressor(student's) − teacher's)²

A layer is named by its path, and what is compared is its *input*: the activations that the layers
before it hand on, after their nonlinearity, normalisation and pooling. So `fc2` stands for the
hidden layer before it. That is read from the program of the network, whoever wrote it. The
regressor is a 1×1 convolution, or the same product for vectors, and is dropped after training. Read
`make_loss` first.

Source: Romero et al., arXiv:1412.6550 (FitNets), equation 3. Departs: the paper's regressor is a
convolution whose window makes spatial sizes equal, where here they must be equal; and its loss is a
sum over places and channels, so that a weight would depend on the size of the layer.
"""

# B batch, N channels of the student, M of the teacher

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from compress import distill
from groundwork import trees
from groundwork.errors import unknown
from groundwork.traced import reach
from groundwork.traced.network import Network
from groundwork.train.losses import Counts
from groundwork.train.step import Batch, LossFn, Model
from groundwork.trees import Shapes, Variables

__all__ = ["begin", "carried", "looking", "make_loss", "regressors", "sizes", "without"]

REGRESSORS = "hint_regressors"  # among the params of a student that is trained by hints
SEEN = "hint_inputs"  # among what a student that `looking` returns says that it has changed

Guide = Callable[[Any, jax.Array], Sequence[jax.Array]]
"""(the student's variables, inputs [B, …]) → what each layer of the teacher is given, [B, …, M]."""


def sizes(
    pairs: Sequence[tuple[str, str]],
    student: tuple[Model, Shapes],
    teacher: tuple[Model, Shapes],
    example: Any,
) -> list[tuple[int, int]]:
    """Returns the channels (N, M) of each pair of layers, from shapes alone.

    Args:
      pairs: paths of a layer of the student and of one of the teacher.
      student: the network, and its variables or their shapes.
      teacher: likewise.
      example: inputs [B, …] or their shapes, which both networks take.

    Raises:
      ValueError: a layer cannot be reached or is called more than once, or the two are given arrays
        of other places.
    """
    found = [_given(model, shapes, example) for model, shapes in (student, teacher)]
    channels = []
    for pair in pairs:
        ours, theirs = (
            _one(whose, path, calls)
            for whose, path, calls in zip(("student", "teacher"), pair, found, strict=True)
        )
        if ours[:-1] != theirs[:-1]:
            raise ValueError(
                f"the student's layer {pair[0]!r} is given {list(ours[1:])} of an example and the "
                f"teacher's {pair[1]!r} {list(theirs[1:])}: choose layers that differ in their "
                "channels alone"
            )
        channels.append((ours[-1], theirs[-1]))
    return channels


def regressors(key: jax.Array, channels: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Returns new regressors, number of the pair → kernel [N, M] and bias [M].

    Kernels are drawn by LeCun's normal initialiser; biases are 0.
    """
    draw = jax.nn.initializers.lecun_normal()
    return {
        str(n): {"kernel": draw(jax.random.fold_in(key, n), pair), "bias": jnp.zeros(pair[1])}
        for n, pair in enumerate(channels)
    }


def begin(variables: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the student's variables with regressors among the params; any leading axes."""
    return {**variables, "params": {**variables["params"], REGRESSORS: drawn}}


def without(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of the student without regressors."""
    params = {name: tree for name, tree in variables["params"].items() if name != REGRESSORS}
    return {**variables, "params": params}


def looking(student: Model, paths: Sequence[str]) -> Network:
    """Returns the student with regressors among its params, for `make_loss` and evaluation.

    Where it is called with `mutable`, it says under `SEEN` what the layers at `paths` were given.
    """

    def apply(variables: Variables, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        own = without(variables)
        if "mutable" not in kwargs:
            return student.apply(own, inputs, *args, **kwargs)
        (outputs, updated), seen = reach.with_inputs(
            student.apply, own, tuple(paths), inputs, *args, **kwargs
        )
        return outputs, {**updated, SEEN: [_first(path, seen) for path in paths]}

    return Network(student.init, apply)


def carried(model: Model, paths: Sequence[str]) -> Guide:
    """Returns what the layers of the first teacher are given: see `distill.carry`.

    The teacher is evaluated, and of several runs the first one is asked.
    """

    def guide(variables: Variables, inputs: jax.Array) -> list[jax.Array]:
        own = trees.replicate(variables[distill.TEACHERS]["0"], 0)
        seen = reach.inputs_of(model.apply, own, tuple(paths), inputs, train=False)
        return [_first(path, seen) for path in paths]

    return guide


def make_loss(base: LossFn, guide: Guide, weight: float, alone: bool = False) -> LossFn:
    """Returns a loss with hints: base + weight × the sum of the pairs' losses.

    Args:
      base: the loss of a student that `looking` returns, such as `distill.make_loss`.
      guide: what the teacher's layers are given, which is not differentiated.
      weight: positive.
      alone: whether the base only counts, as in the first stage of the paper: its loss is left out.

    Raises:
      ValueError: the weight is not positive and finite.
    """
    if not 0 < weight < float("inf"):
        raise ValueError(f"weight {weight} must be positive and finite")

    def loss_fn(
        key: jax.Array, variables: Variables, batch: Batch
    ) -> tuple[jax.Array, tuple[Variables, Counts]]:
        loss, (updated, counts) = base(key, variables, batch)
        rest = {name: tree for name, tree in updated.items() if name != SEEN}
        drawn = variables["params"][REGRESSORS]
        given = [lax.stop_gradient(array) for array in guide(variables, batch.inputs)]
        apart = sum(
            distance(drawn[str(n)], seen, wanted)
            for n, (seen, wanted) in enumerate(zip(updated[SEEN], given, strict=True))
        )
        hinted = weight * jnp.sum(jnp.where(batch.valid, apart, 0.0)) / jnp.sum(batch.valid)
        return hinted if alone else loss + hinted, (rest, counts)

    return loss_fn


def distance(regressor: Mapping[str, jax.Array], seen: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns ½ × the mean squared distance of each example, [B], in float32 or better.

    Args:
      regressor: kernel [N, M] and bias [M].
      seen: of the student, [B, …, N].
      wanted: of the teacher, [B, …, M].

    Raises:
      ValueError: the shapes do not fit.
    """
    made = seen.astype(jnp.promote_types(seen.dtype, jnp.float32)) @ regressor["kernel"]
    made = made + regressor["bias"].reshape((1,) * (made.ndim - 1) + (-1,))
    if made.shape != wanted.shape:
        raise ValueError(f"the regressor gives {made.shape}, and the teacher {wanted.shape}")
    return 0.5 * jnp.mean(jnp.square(made - wanted), axis=tuple(range(1, made.ndim)))


def _first(path: str, seen: Mapping[str, Sequence[jax.Array]]) -> jax.Array:
    """Returns what a layer was given, which `sizes` has checked in evaluation alone."""
    if not seen[path]:
        raise ValueError(
            f"layer {path!r} is not called, or within a scan or a rematerialised part: choose "
            "another"
        )
    return seen[path][0]


def _given(model: Model, variables: Any, example: Any) -> dict[str, reach.Reached]:
    """Returns the layers that a network calls, in evaluation."""
    return reach.layers(model.apply, variables, example, train=False)[0]


def _one(whose: str, path: str, calls: Mapping[str, reach.Reached]) -> tuple[int, ...]:
    """Returns the shape that a layer is given at its only call."""
    if path not in calls:
        raise ValueError(str(unknown(f"layer of the {whose}", path, calls)))
    met = calls[path]
    if len(met.inputs) > 1 or met.repeats > 1 or met.enclosed:
        raise ValueError(
            f"the {whose}'s layer {path!r} is called more than once, or within a scan or a "
            "rematerialised part: choose another"
        )
    return met.inputs[0]
