"""OBS: layer by layer, which weights the others can best make up for, and what these become."""

# G groups, K inputs of a layer, M outputs; see `grams`

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

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
        new[path] = grams.from_matrices(found[path], made_up(gram, weight, keep))
    return masks.apply(mask, evidence.with_weights(new))


def made_up(gram: jax.Array, weight: jax.Array, keep: jax.Array) -> jax.Array:
    """Returns the weights v of `correct` of one layer, [G, K, M].

    Args:
      gram: Xᵀ X of the layer's inputs, [G, K, K]; see `grams.grams`.
      weight: w, [G, K, M].
      keep: True where they stay, [G, K, M].
    """
    hessian = _ridged(gram)
    wanted = jnp.einsum("gkl,glm->gkm", hessian, weight, precision=lax.Precision.HIGHEST)
    return jax.vmap(_solved)(hessian, keep, wanted)


def _ridged(gram: jax.Array) -> jax.Array:
    """Returns H [G, K, K]; of a group that is given zeros alone, the identity."""
    mean = jnp.trace(gram, axis1=1, axis2=2) / gram.shape[-1]
    ridge = jnp.where(mean > 0, RIDGE * mean, 1.0)
    return gram + ridge[:, None, None] * jnp.eye(gram.shape[-1], dtype=gram.dtype)[None]


def _inverse_diagonals(hessian: jax.Array, keep: jax.Array) -> jax.Array:
    """Returns for each output the diagonal of H⁻¹ over what it keeps, 1 elsewhere, [K, M]."""

    def on_host(hessian: Any, keep: Any) -> np.ndarray:
        diagonals = np.ones(keep.shape)
        for matrix, rows, outputs in _parts(hessian, keep):
            diagonals[np.ix_(rows, outputs)] = np.diag(np.linalg.inv(matrix))[:, None]
        return diagonals.astype(hessian.dtype)

    return _called(on_host, hessian, keep)


def _solved(hessian: jax.Array, keep: jax.Array, wanted: jax.Array) -> jax.Array:
    """Returns v [K, M] with H v = wanted over what each output keeps, and zero elsewhere."""

    def on_host(hessian: Any, keep: Any, wanted: Any) -> np.ndarray:
        solved = np.zeros(keep.shape)
        for matrix, rows, outputs in _parts(hessian, keep):
            solved[np.ix_(rows, outputs)] = np.linalg.solve(
                matrix, np.asarray(wanted, np.float64)[np.ix_(rows, outputs)]
            )
        return solved.astype(hessian.dtype)

    return _called(on_host, hessian, keep, wanted)


def _parts(hessian: Any, keep: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields H over what some outputs keep, in float64, these rows, and the outputs."""
    matrix = np.asarray(hessian, np.float64)
    kept, which = np.unique(np.asarray(keep).T, axis=0, return_inverse=True)
    for number, one in enumerate(kept):
        rows = np.flatnonzero(one)
        if len(rows):
            yield matrix[np.ix_(rows, rows)], rows, np.flatnonzero(which.ravel() == number)


def _called(function: Callable[..., np.ndarray], hessian: jax.Array, *rest: jax.Array) -> jax.Array:
    """Returns what a function of the host makes, [K, M].

    There the weights that are kept, mostly a small part, are all that is solved. On the device they
    would all be, in batches of factorisations, of which two that jaxlib 0.10 works on at once on a
    CPU can wait for each other without end.
    """
    shape = jax.ShapeDtypeStruct(rest[0].shape, hessian.dtype)
    return jax.pure_callback(function, shape, hessian, *rest, vmap_method="sequential")


OBS = Criterion(score=obs, correct=correct, examples=1024, needs=("apply", "examples"))
