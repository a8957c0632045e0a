"""Terms of a loss, and an optax transformation, under which units become small before they go."""

# U units of a group

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from groundwork import trees
from groundwork.errors import unknown
from groundwork.trees import Variables
from pruning.structured.evidence import scales
from pruning.structured.graph import Graph, Member, parameters

OVER = ("units", "filters", "channels", "shapes", "depth")
PENALTIES = ("slimming", *OVER)


def penalty(graph: Graph, variables: Variables, kind: str) -> jax.Array:
    """Returns [] float: the penalty of a name, to which a loss gives its weight.

    Args:
      graph: see `grouping.groups`.
      variables: of one replicate, at full size.
      kind: one of `PENALTIES`: `slimming`, or what `group_lasso` runs over.

    Raises:
      ValueError: the kind is unknown, or the network has nothing that it looks at.

    Example:
        >>> from pruning import structured
        >>> network = lambda params, x: jax.nn.relu(x @ params["hidden"]) @ params["out"]
        >>> params = {"hidden": jnp.array([[3.0, 0.0]]), "out": jnp.array([[4.0], [2.0]])}
        >>> graph = structured.groups(network, params, jnp.ones((1, 1)))
        >>> float(structured.penalty(graph, params, "units"))  # √(3² + 4²) + √(0² + 2²)
        7.0
    """
    if kind not in PENALTIES:
        raise ValueError(str(unknown("penalty", kind, PENALTIES)))
    return slimming(graph, variables) if kind == "slimming" else group_lasso(graph, variables, kind)


def slimming(graph: Graph, variables: Variables) -> jax.Array:
    """Returns Σ |γ| of the scales of normalisations that units have.

    Source: Liu et al., arXiv:1708.06519, equation 1.

    Raises:
      ValueError: a group has no such scale.
    """
    flat = trees.flatten(variables)
    members = [member for group in graph.groups for member in scales(group)]
    return sum((jnp.sum(jnp.abs(_rows(flat[m.path], m))) for m in members), jnp.zeros(()))


def group_lasso(graph: Graph, variables: Variables, over: str = "units") -> jax.Array:
    """Returns the sum of the norms of parts of the parameters.

    Source: Wen et al., arXiv:1608.03665, equations 4 to 6. Departs: `units` takes all entries of a
    unit as one part, in every layer.

    Args:
      graph: see `grouping.groups`.
      variables: of one replicate, at full size.
      over: what is a part: `units`; or, of kernels [..., inputs, outputs] that units have, the
        entries of an output (`filters`), of an input (`channels`), of an input at a place of the
        window (`shapes`), or all of them, so that a residual block may vanish (`depth`).

    Raises:
      ValueError: `over` is unknown.
    """
    if over not in OVER:
        raise ValueError(str(unknown("over", over, OVER)))
    flat = trees.flatten(variables)
    if over == "units":
        return sum(
            (_of_units(flat, parameters(graph, group.members)) for group in graph.groups),
            jnp.zeros(()),
        )
    paths = dict.fromkeys(m.path for group in graph.groups for m in group.members)
    kernels = [flat[p] for p in paths if p in graph.summed and len(graph.axes[p]) > 1]
    return sum((_norms(_squares(kernel, over)) for kernel in kernels), jnp.zeros(()))


class GrowingState(NamedTuple):
    """The number of updates so far, and of each parameter, which entries shall vanish."""

    updates: jax.Array  # [] int32
    fading: Any


def growing(
    fading: Any, *, step: float, every: int, ceiling: float
) -> optax.GradientTransformation:
    """Returns a transformation that adds the gradient of a growing λ/2 · w² to that of the loss.

    It stands before an optimiser in `optax.chain`. λ grows by `step` every `every` updates, from
    `step` in the first of them, until it is `ceiling`. Source: Wang et al., arXiv:2012.09243,
    equations 3 and 4 (GReg-1). Departs: λ stops at the ceiling, and what follows is up to the
    caller.

    Args:
      fading: of each parameter, which of its entries shall vanish, True or 1, as `init` puts it
        into the state; None if the caller puts it there.
      step: of λ.
      every: in updates.
      ceiling: of λ.

    Raises:
      ValueError: a number is not above 0.

    Example:
        >>> from pruning import structured
        >>> params, gradients = {"kernel": jnp.array([2.0, 4.0])}, {"kernel": jnp.array([0.0, 0.0])}
        >>> fading = {"kernel": jnp.array([True, False])}
        >>> shrink = structured.growing(fading, step=0.5, every=1, ceiling=1.0)
        >>> state = shrink.init(params)
        >>> for _ in range(3):
        ...     updates, state = shrink.update(gradients, state, params)
        ...     print(updates["kernel"].tolist())
        [1.0, 0.0]
        [2.0, 0.0]
        [2.0, 0.0]
    """
    if min(step, every, ceiling) <= 0:
        raise ValueError(f"step={step}, every={every} and ceiling={ceiling} must be above 0")

    def init(params: Any) -> GrowingState:
        return GrowingState(jnp.zeros((), jnp.int32), fading)

    def update(updates: Any, state: GrowingState, params: Any = None) -> tuple[Any, GrowingState]:
        if params is None:
            raise ValueError("growing needs the parameters: call update(updates, state, params)")
        weight = jnp.minimum(step * (1 + state.updates // every), ceiling)
        grown = jax.tree.map(
            lambda g, w, f: g + (weight * jnp.where(f, w, 0)).astype(g.dtype),
            updates,
            params,
            state.fading,
        )
        return grown, GrowingState(state.updates + 1, state.fading)

    return optax.GradientTransformation(init, update)


def _of_units(flat: Any, members: tuple[Member, ...]) -> jax.Array:
    """Returns Σ over units of the norm of all entries that a unit has in the members."""
    return _norms(sum(jnp.sum(jnp.square(_rows(flat[m.path], m)), 1) for m in members))


def _rows(leaf: jax.Array, member: Member) -> jax.Array:
    """Returns [U, E]: the entries of a leaf that each unit has along the member's axis."""
    rows = jnp.moveaxis(leaf, member.axis, 0)[member.positions]
    return rows.reshape(len(member.positions), -1)


def _squares(kernel: jax.Array, over: str) -> jax.Array:
    last = kernel.ndim - 1
    kept = {"filters": (last,), "channels": (last - 1,), "shapes": tuple(range(last)), "depth": ()}
    axes = tuple(axis for axis in range(kernel.ndim) if axis not in kept[over])
    return jnp.sum(jnp.square(kernel), axes)


def _norms(squares: Any) -> jax.Array:
    """Returns the sum of the roots; the gradient of the root of 0 is 0."""
    positive = squares > 0
    return jnp.sum(jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0))
