"""Criteria of the gradients and second derivatives of the loss.

They are those of the network in evaluation, by the weights that may be pruned.
"""

# N examples, B of them in a batch, C outputs of an example

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from pruning.criteria import batches
from pruning.criteria.evidence import Criterion, Evidence
from pruning.select import Scores

TEMPERATURE = 200.0
MOST_OUTPUTS = 1024  # of one example
FLOATS = 2**26  # in the Jacobians that `obd` holds at once
Weights = dict[str, jax.Array]


def snip(evidence: Evidence) -> Scores:
    """Returns |g·w|, of the gradient g of the mean loss of all examples.

    Source: Lee et al., arXiv:1810.02340, without the normalisation by the sum of all
    scores, which changes no order. There it is the gradient by the mask, which is g·w.
    """
    gradients = evidence.prunable(evidence.gradients())
    return {path: jnp.abs(gradients[path] * weight) for path, weight in evidence.weights.items()}


def taylor(evidence: Evidence) -> Scores:
    """Returns the mean of (g·w)² over batches of the training examples.

    It estimates the squared change of the loss without the weight, to first order. `batch_size` of
    the evidence says what a batch is, the last one counts by its size; without it, each example is
    a batch. Of one batch alone the order is that of `snip`.

    Source: Molchanov et al., arXiv:1906.10771, equation 8, for single weights.
    """
    weights, number = evidence.weights, batches.count(evidence.examples)
    gradient = jax.grad(_loss_of_weights(evidence))

    def squares(batch: Any) -> Weights:
        given, share = gradient(weights, batch), batches.count(batch) / number
        return {path: share * jnp.square(given[path] * weights[path]) for path in weights}

    return batches.total(squares, evidence.examples, evidence.batch_size or 1)


def grasp(evidence: Evidence) -> Scores:
    """Returns w·(Hg): weights go first whose removal increases the norm of the gradient most.

    The paper's scores are −w·(Hg), the change of the squared norm of the gradient without the
    weight (but for a factor), of which it removes the highest; ours are the opposite. H and g are
    those of the mean loss of all examples, where the authors take two halves of a batch. The
    network's outputs are divided by a temperature of 200, as published, which is meant for softmax;
    it needs `apply` and `output_loss`. Of a `loss` alone, the temperature is 1.

    Source: Wang et al., arXiv:2002.07376, Algorithm 1.
    """
    weights, loss = evidence.weights, _loss_of_weights(evidence, TEMPERATURE)

    def over_all(function: Any) -> Weights:
        return batches.mean(function, evidence.examples, evidence.batch_size)

    first = over_all(lambda batch: jax.grad(loss)(weights, batch))

    def product(batch: Any) -> Weights:
        return jax.jvp(lambda w: jax.grad(loss)(w, batch), (weights,), (first,))[1]

    second = over_all(product)
    return {path: weights[path] * second[path] for path in weights}


def obd(evidence: Evidence) -> Scores:
    """Returns h·w² / 2, where h is the diagonal of the Gauss-Newton matrix of the mean loss.

    h is the mean over examples of diag(Jᵀ S J), with the Jacobian J of the outputs by the weights
    and the Hessian S of the loss by the outputs, both exact. It takes C backward passes for each
    example. Of a loss without curvature, such as the mean absolute error, h is 0 everywhere, and no
    score is a number.

    Source: LeCun, Denker & Solla, Optimal Brain Damage, 1989, whose second derivatives are
    propagated back with the same neglect of the network's own curvature.

    Raises:
      ValueError: an example has more than 1024 outputs.
    """
    weights, number = evidence.weights, batches.count(evidence.examples)
    apply, output_loss = evidence.apply, evidence.output_loss
    assert apply is not None
    assert output_loss is not None
    one = jax.tree.map(lambda leaf: leaf[:1], evidence.examples)
    shapes = jax.tree.leaves(jax.eval_shape(apply, evidence.params, one))
    outputs = sum(math.prod(shape.shape) for shape in shapes)
    if outputs > MOST_OUTPUTS:
        raise ValueError(f"obd is for at most {MOST_OUTPUTS} outputs of an example, not {outputs}")

    def diagonal(example: Any) -> Weights:
        example = jax.tree.map(lambda leaf: leaf[None], example)
        tree, back = jax.vjp(lambda w: apply(evidence.with_weights(w), example), weights)
        flat, unravel = ravel_pytree(tree)  # [C]
        curvature = jax.hessian(lambda flat: output_loss(unravel(flat), example))(flat)
        rows = jax.vmap(lambda row: back(unravel(row))[0])(jnp.eye(len(flat), dtype=flat.dtype))
        return jax.tree.map(lambda j: jnp.sum(j * jnp.tensordot(curvature, j, 1), 0), rows)

    def diagonals(batch: Any) -> Weights:
        return jax.tree.map(lambda leaf: jnp.sum(leaf, 0), jax.vmap(diagonal)(batch))

    held = outputs * sum(leaf.size for leaf in weights.values())
    size = min(max(1, FLOATS // held), evidence.batch_size or number)
    summed = batches.total(diagonals, evidence.examples, size)
    curved = jnp.any(jnp.stack([jnp.any(leaf != 0) for leaf in summed.values()]))
    return {
        path: jnp.where(curved, summed[path] / number * jnp.square(weight) / 2, jnp.nan)
        for path, weight in weights.items()
    }


def _loss_of_weights(evidence: Evidence, temperature: float = 1.0) -> Any:
    """Returns (prunable leaves, examples) → the mean loss.

    Raises:
      ValueError: no loss was given.
    """
    loss, apply, output_loss = evidence.loss, evidence.apply, evidence.output_loss

    def of_outputs(weights: Weights, batch: Any) -> jax.Array:
        assert apply is not None
        assert output_loss is not None
        outputs = apply(evidence.with_weights(weights), batch)
        return output_loss(jax.tree.map(lambda leaf: leaf / temperature, outputs), batch)

    def of_loss(weights: Weights, batch: Any) -> jax.Array:
        assert loss is not None
        return loss(evidence.with_weights(weights), batch)

    softened = temperature != 1 and apply is not None and output_loss is not None
    return of_outputs if softened else of_loss


SNIP = Criterion(score=snip, examples=1024, needs=("loss", "examples"))
TAYLOR = Criterion(score=taylor, examples=1024, needs=("loss", "examples"))
GRASP = Criterion(score=grasp, examples=1024, needs=("loss", "examples"))
OBD = Criterion(score=obd, examples=512, needs=("apply", "output_loss", "examples"))
