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

    Example:
        >>> from compress import hints
        >>> from groundwork.architectures import own
        >>> network = own.of(lambda params, x: jax.nn.relu(x @ params["one"]) @ params["two"])
        >>> student = {"params": {"one": jnp.zeros((4, 3)), "two": jnp.zeros((3, 2))}}
        >>> teacher = {"params": {"one": jnp.zeros((4, 8)), "two": jnp.zeros((8, 2))}}
        >>> hints.sizes([("two", "two")], (network, student), (network, teacher), jnp.zeros((1, 4)))
        [(3, 8)]
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

    Example:
        >>> from compress import hints
        >>> drawn = hints.regressors(jax.random.key(0), [(3, 8), (2, 2)])  # two pairs of layers
        >>> jax.tree.map(jnp.shape, drawn["0"])
        {'bias': (8,), 'kernel': (3, 8)}
    """
    draw = jax.nn.initializers.lecun_normal()
    return {
        str(n): {"kernel": draw(jax.random.fold_in(key, n), pair), "bias": jnp.zeros(pair[1])}
        for n, pair in enumerate(channels)
    }


def begin(variables: Mapping[str, Any], drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the student's variables with regressors among the params; any leading axes.

    Example:
        >>> from compress import hints
        >>> drawn = hints.regressors(jax.random.key(0), [(3, 8)])
        >>> begun = hints.begin({"params": {"fc": jnp.zeros((4, 3))}}, drawn)
        >>> sorted(begun["params"])
        ['fc', 'hint_regressors']
    """
    return {**variables, "params": {**variables["params"], REGRESSORS: drawn}}


def without(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the variables of the student without regressors.

    Example:
        >>> from compress import hints
        >>> drawn = hints.regressors(jax.random.key(0), [(3, 8)])
        >>> begun = hints.begin({"params": {"fc": jnp.zeros((4, 3))}}, drawn)
        >>> sorted(hints.without(begun)["params"])  # what `begin` added is gone
        ['fc']
    """
    params = {name: tree for name, tree in variables["params"].items() if name != REGRESSORS}
    return {**variables, "params": params}


def looking(student: Model, paths: Sequence[str]) -> Network:
    """Returns the student with regressors among its params, for `make_loss` and evaluation.

    Where it is called with `mutable`, it says under `SEEN` what the layers at `paths` were given.

    Example:
        >>> from compress import hints
        >>> from groundwork.architectures import own
        >>> student = own.of(lambda params, x: jax.nn.relu(x @ params["one"]) @ params["two"])
        >>> variables = {"params": {"one": jnp.array([[1.0, -1.0]]), "two": jnp.ones((2, 1))}}
        >>> network = hints.looking(student, ["two"])
        >>> _, updated = network.apply(variables, jnp.array([[3.0]]), mutable=["batch_stats"])
        >>> updated["hint_inputs"][0].tolist()  # what the layer `two` was given: relu([3, −3])
        [[3.0, 0.0]]
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

    Example:
        >>> from compress import distill, hints
        >>> from groundwork.architectures import own
        >>> model = own.of(lambda params, x: jax.nn.relu(x @ params["one"]) @ params["two"])
        >>> params = {"one": jnp.array([[[1.0, -1.0]]]), "two": jnp.ones((1, 2, 1))}  # of one run
        >>> guide = hints.carried(model, ["two"])
        >>> variables = distill.carry({"params": {}}, {"params": params})
        >>> guide(variables, jnp.array([[3.0]]))[0].tolist()  # relu([3, −3])
        [[3.0, 0.0]]
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

    Example:
        >>> from compress import hints
        >>> from groundwork.architectures import own
        >>> from groundwork.train import step
        >>> student = hints.looking(own.of(lambda params, x: x @ params["out"]), ["out"])
        >>> regressor = {"0": {"kernel": jnp.eye(1), "bias": jnp.zeros(1)}}
        >>> begun = hints.begin({"params": {"out": jnp.ones((1, 2))}}, regressor)
        >>> guide = lambda variables, inputs: [inputs + 2]  # what the teacher's layer is given
        >>> loss = hints.make_loss(step.make_loss(student), guide, weight=1.0, alone=True)
        >>> batch = step.Batch(jnp.ones((1, 1)), jnp.array([0]), jnp.array([True]))
        >>> float(loss(jax.random.key(0), begun, batch)[0])  # ½ × (1 − 3)²
        2.0
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
