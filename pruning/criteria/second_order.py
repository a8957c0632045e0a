"""OBS: layer by layer, which weights the others can best make up for, and what these become."""

# G groups, K inputs of a layer, M outputs; see `grams`

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import sequential_vmap
from jax.scipy.linalg import cho_solve, solve_triangular

from groundwork.trees import Params
from pruning import grams, masks
from pruning.criteria.evidence import Criterion, Evidence
from pruning.masks import Mask
from pruning.select import Scores

RIDGE = 0.01  # of the mean of the diagonal


def obs(evidence: Evidence) -> Scores:
    """Returns w² / [H⁻¹]_ww, by how much a layer's squared error grows without the weight.

    H = Xᵀ X + λ I has the inputs X of the layer (of a convolution its patches) over all examples,
    as the network gives them under the mask so far, and λ is 1 % of the mean of its diagonal. Each
    output of a layer has weights of its own, and H⁻¹ is the inverse over those that it keeps: the
    error is that of the layer's outputs when the output's other weights make up for the loss, which
    is what `correct` computes.

    Sources: Hassibi & Stork, Optimal Brain Surgeon, 1993; layer by layer: Frantar et al. (OBC),
    arXiv:2208.11580; the ridge: Frantar & Alistarh (SparseGPT), arXiv:2301.00774.
    Departs: these remove one weight, or one column, after the other, with an update after each;
    here all are scored at once, and corrected together in closed form.

    Raises:
      ValueError: the inputs of a layer cannot be had, or are too many; the error says why.
    """
    found, scores = grams.layers(evidence), {}
    for path, gram in grams.grams(evidence).items():
        weight = grams.as_matrices(found[path], evidence.weights[path])
        keep = grams.as_matrices(found[path], evidence.mask[path])
        diagonal = jax.vmap(_inverse_diagonals)(_ridged(gram), keep)
        scores[path] = grams.from_matrices(found[path], jnp.square(weight) / diagonal)
    return scores


def correct(evidence: Evidence, mask: Mask) -> Params:
    """Returns parameters in which the weights that remain make up for those that go.

    The weights of each output become those v that minimise ‖X (v − w)‖² + λ ‖v − w‖² among all
    that are zero where the mask prunes, with X and λ of `obs`: v_k = H_kk⁻¹ (H w)_k, over the
    weights k that are kept. All layers are solved on what the network gives them before any is
    changed. Other parameters, such as biases, stay.

    Args:
      evidence: of the weights w before.
      mask: prunes what the evidence's mask prunes, and more.

    Raises:
      ValueError: see `obs`.
    """
    found, new = grams.layers(evidence), {}
    for path, gram in grams.grams(evidence).items():
        weight = grams.as_matrices(found[path], evidence.weights[path])
        keep = grams.as_matrices(found[path], mask[path])
        hessian = _ridged(gram)
        wanted = jnp.einsum("gkl,glm->gkm", hessian, weight, precision=lax.Precision.HIGHEST)
        solved = jax.vmap(_solved)(hessian, keep, wanted)
        new[path] = grams.from_matrices(found[path], solved)
    return masks.apply(mask, evidence.with_weights(new))


def _ridged(gram: jax.Array) -> jax.Array:
    """Returns H [G, K, K]; of a group that is given zeros alone, the identity."""
    mean = jnp.trace(gram, axis1=1, axis2=2) / gram.shape[-1]
    ridge = jnp.where(mean > 0, RIDGE * mean, 1.0)
    return gram + ridge[:, None, None] * jnp.eye(gram.shape[-1], dtype=gram.dtype)[None]


def _inverse_diagonals(hessian: jax.Array, keep: jax.Array) -> jax.Array:
    """Returns for each output the diagonal of H⁻¹ over what it keeps, 1 elsewhere, [K, M].

    Outputs that keep everything share one inverse. The others are computed one after the other.
    """
    whole = jnp.all(keep, 0)  # [M]
    diagonals = jnp.broadcast_to(_inverse_diagonal(hessian)[:, None], keep.shape)
    columns = jnp.argsort(whole, stable=True)  # those that lack weights come first

    def column(number: jax.Array, diagonals: jax.Array) -> jax.Array:
        at = columns[number]
        return diagonals.at[:, at].set(_inverse_diagonal(_within(hessian, keep[:, at])))

    return lax.fori_loop(0, jnp.sum(~whole), column, diagonals)


# Factorisations are made one at a time: of two batches that jaxlib 0.10 works on at once on a CPU,
# each can hold the thread that the other waits for, and then neither ends.
@sequential_vmap
def _inverse_diagonal(matrix: jax.Array) -> jax.Array:
    """Returns the diagonal of the inverse of a positive definite matrix, [K]."""
    lower = jnp.linalg.cholesky(matrix)
    inverse = solve_triangular(lower, jnp.eye(len(matrix), dtype=matrix.dtype), lower=True)
    return jnp.sum(jnp.square(inverse), 0)


def _within(hessian: jax.Array, keep: jax.Array) -> jax.Array:
    """Returns H over the kept inputs, and the identity over the others, [K, K]."""
    both = keep[:, None] & keep[None, :]
    return jnp.where(both, hessian, jnp.eye(len(keep), dtype=hessian.dtype))


def _solved(hessian: jax.Array, keep: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns v [K, M] with H v = wanted over what each output keeps, and zero elsewhere."""
    return lax.map(lambda column: _column(hessian, *column), (keep.T, wanted.T)).T


@sequential_vmap
def _column(hessian: jax.Array, keep: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns one column of `_solved`, [K]."""
    factor = jnp.linalg.cholesky(_within(hessian, keep))
    return cho_solve((factor, True), jnp.where(keep, wanted, 0))


OBS = Criterion(score=obs, correct=correct, examples=1024, needs=("apply", "examples"))
