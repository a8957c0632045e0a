"""What a run has of a user's own: whether its parts fit together, and digests of their code."""

# B batch, C classes

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from groundwork import architectures, named
from groundwork.architectures.own import Own
from groundwork.architectures.own.network import in_training
from groundwork.data.dataset import AnyDataset, Dataset
from groundwork.errors import UserError, reason
from groundwork.traced.digest import digest
from groundwork.train import loss_spec
from groundwork.train.loss_spec import LossSpec
from groundwork.train.losses import Loss
from groundwork.trees import Shapes


def checked_loss(
    spec: LossSpec, dataset: AnyDataset, model: Any, shapes: Shapes
) -> tuple[Loss, dict[str, str]]:
    """Returns the loss of a run, and the digests of what of the run is a user's own.

    Args:
      spec: of the config.
      dataset: of the run.
      model: of the run.
      shapes: of the model's variables.

    Returns:
      The loss; and key of the config → a digest of what the function that it names computes.

    Raises:
      UserError: the loss does not take the model's outputs and the data's targets, or a label is
        beyond the outputs.
    """
    loss = loss_spec.build(spec, dataset.target)
    inputs, targets = (_batch(example) for example in (dataset.example, dataset.target))
    valid = jax.ShapeDtypeStruct((2,), jnp.bool_)
    outputs = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), shapes, inputs)
    refusal = f"loss={spec.name} cannot take outputs of {_shown(outputs)} and targets of "
    refusal += _shown(targets)
    if spec.name == "cross_entropy":
        _check_labels(refusal, outputs, targets, dataset)
    try:
        counts = jax.eval_shape(loss.count, outputs, targets, valid)
    except UserError as error:
        raise UserError(f"{refusal}: {error}") from error
    except (Exception, SystemExit) as error:  # a user's loss may raise anything
        raise UserError(f"{refusal}: {reason(error)}") from error
    _check_counts(spec, loss, counts)
    digests = {}
    if isinstance(model, Own):
        digests["model.name"] = _of_network(model, shapes, inputs)
    if named.is_own(spec.name):
        digests["loss"] = digest(
            lambda outputs, *rest: _with_gradient(lambda o: loss.count(o, *rest), outputs),
            outputs,
            targets,
            valid,
        )
    return loss, digests


def digests_of(key: str, model: Any, dataset: AnyDataset) -> dict[str, str]:
    """Returns the digest of one more network of a run, if it is a user's own, by its key."""
    if not isinstance(model, Own):
        return {}
    shapes = architectures.shapes(model, dataset.example)
    return {key: _of_network(model, shapes, _batch(dataset.example))}


def _of_network(model: Own, shapes: Shapes, inputs: Any) -> str:
    """Returns a digest of how a network begins, learns and predicts."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def computed(key: jax.Array, variables: Any, inputs: Any) -> Any:
        def trained(params: Any) -> Any:
            return in_training(model)({**variables, "params": params}, inputs, key)

        return (
            model.init(key, inputs),
            model.apply(variables, inputs, train=False),
            _with_gradient(trained, variables["params"]),
        )

    return digest(computed, key, shapes, inputs)


def _with_gradient(function: Callable[[Any], Any], given: Any) -> Any:
    """Returns what a function gives, and the gradient of its sum, which may have its own rule."""

    def total(given: Any) -> Any:
        outputs = function(given)
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(outputs)]
        floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        return sum((jnp.sum(leaf, dtype=jnp.float32) for leaf in floats), jnp.zeros(())), outputs

    return jax.value_and_grad(total, has_aux=True, allow_int=True)(given)


def _check_counts(spec: LossSpec, loss: Loss, counts: Any) -> None:
    """Refuses a user's `Loss` that does not count what it announces."""
    if not named.is_own(spec.name):
        return
    if set(counts.measures) != set(loss.measures):
        raise UserError(
            f"loss={spec.name} announces the measures {sorted(loss.measures)}, but counts "
            f"{sorted(counts.measures)}"
        )
    if loss.metric.name not in {"loss", *loss.measures}:
        raise UserError(
            f"loss={spec.name} has the metric {loss.metric.name!r}, which is none of its measures "
            f"{sorted(loss.measures)}"
        )


def _check_labels(refusal: str, outputs: Any, targets: Any, dataset: AnyDataset) -> None:
    if not hasattr(outputs, "dtype") or not hasattr(targets, "dtype"):
        raise UserError(f"{refusal}: logits and labels must be one array each")
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise UserError(f"{refusal}: labels must be integers; numbers need a loss of numbers")
    if outputs.ndim != targets.ndim + 1:
        raise UserError(f"{refusal}: logits need one axis more than labels, that of the classes")
    most = dataset.classes - 1
    if isinstance(dataset, Dataset):
        splits = (dataset.train, dataset.validation, dataset.test)
        most = max(int(np.max(split.labels, initial=0)) for split in splits)
    if most >= outputs.shape[-1]:
        raise UserError(
            f"{refusal}: the label {most} needs {most + 1} outputs, not {outputs.shape[-1]}"
        )


def _batch(example: Any) -> Any:
    """Returns the shapes of two examples: a single one would hide a mean over the batch."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example
    )


def _shown(tree: Any) -> str:
    """Returns shapes and dtypes of one example as text, without the axis of the batch."""
    shown = jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", tree)
    return str(shown).replace("'", "")
