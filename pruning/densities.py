"""How a network's density is shared out among its layers, before anything is trained.

Everything here is computed on the host, from shapes. Densities are path → kept / prunable.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

Densities = dict[str, float]  # path → kept / prunable, in [0, 1]


def uniform(shapes: Mapping[str, Any], density: float) -> Densities:
    """Returns the same density for every path.

    Args:
      shapes: path → a shape, or anything that has one: a mask, or prunable leaves.
      density: kept / prunable, in [0, 1].

    Raises:
      ValueError: the density is outside [0, 1], or there are no shapes.

    Example:
        >>> from pruning import densities
        >>> densities.uniform({"fc/kernel": (8, 8), "output/kernel": (8, 2)}, 0.25)
        {'fc/kernel': 0.25, 'output/kernel': 0.25}
    """
    _check(shapes, density)
    return dict.fromkeys(sorted(shapes), float(density))


def erdos_renyi(shapes: Mapping[str, Any], density: float) -> Densities:
    """Returns densities proportional to (inputs + outputs) / (inputs × outputs).

    The last two axes of a leaf are its inputs and outputs, as in Flax's Dense and Conv; other axes,
    such as that of a stack, do not count. Where a kernel has others, [inputs, heads, dimensions] of
    attention or PyTorch's [O, I, KH, KW], take `erdos_renyi_kernel`.
    Layers whose share would exceed 1 stay dense, and the rest is raised, so that the network as a
    whole has the density.

    Source: Mocanu et al., arXiv:1707.04780, Equation 1; Evci et al., arXiv:1911.11134, Section 3.

    Args:
      shapes: see `uniform`.
      density: of all leaves together, in [0, 1].

    Raises:
      ValueError: see `uniform`.

    Example:
        >>> from pruning import densities
        >>> shapes = {"fc/kernel": (8, 8), "output/kernel": (8, 2)}  # 16/64 and 10/16
        >>> shared = densities.erdos_renyi(shapes, 26 / 80)
        >>> {path: round(density, 3) for path, density in shared.items()}
        {'fc/kernel': 0.25, 'output/kernel': 0.625}
    """
    return _shared(shapes, density, lambda shape: shape[-2:])


def erdos_renyi_kernel(shapes: Mapping[str, Any], density: float) -> Densities:
    """Returns densities proportional to the sum of a leaf's axes over their product.

    That is (inputs + outputs + height + width) / (inputs × outputs × height × width) of a
    convolution, whatever the order of its axes, and `erdos_renyi` of a dense layer. An array that
    stacks layers counts as one, and its stack as another axis. Layers whose share would exceed 1
    stay dense, and the rest is raised.

    Source: Evci et al., arXiv:1911.11134, Section 3 and Appendix.

    Args:
      shapes: see `uniform`.
      density: of all leaves together, in [0, 1].

    Raises:
      ValueError: see `uniform`.

    Example:
        >>> from pruning import densities
        >>> shapes = {"conv/kernel": (2, 2, 4, 4), "fc/kernel": (4, 4)}  # 12/64 and 8/16
        >>> shared = densities.erdos_renyi_kernel(shapes, 20 / 80)
        >>> {path: round(density, 4) for path, density in shared.items()}
        {'conv/kernel': 0.1875, 'fc/kernel': 0.5}
    """
    return _shared(shapes, density, lambda shape: shape)


def counts(shapes: Mapping[str, Any], densities: Mapping[str, float]) -> dict[str, int]:
    """Returns how many weights each path keeps, path → int, in exact total.

    Their sum is Python's `round` of Σ density × size: that of density × total, for densities of
    this module. A path keeps its density × size, rounded down or up; up where the fraction is
    largest, and among equals in the order of paths.

    Args:
      shapes: see `uniform`.
      densities: has the same paths.

    Raises:
      ValueError: the paths differ, or a density is outside [0, 1].

    Example:
        >>> from pruning import densities
        >>> shapes = {"fc1/kernel": (3, 1), "fc2/kernel": (3, 1)}
        >>> densities.counts(shapes, densities.uniform(shapes, 0.5))  # 1.5 each, 3 in total
        {'fc1/kernel': 2, 'fc2/kernel': 1}
    """
    if shapes.keys() != densities.keys():
        differing = sorted(shapes.keys() ^ densities.keys())
        raise ValueError(f"shapes and densities differ in the paths {differing}")
    for density in densities.values():
        _check(shapes, density)
    # six digits: a product that is whole or a half stays so, and no error of floats decides
    exact = {p: round(densities[p] * math.prod(_shape(shapes[p])), 6) for p in sorted(shapes)}
    kept = {path: math.floor(count) for path, count in exact.items()}
    missing = round(round(math.fsum(exact.values()), 5)) - sum(kept.values())
    for path in sorted(exact, key=lambda path: kept[path] - exact[path])[:missing]:
        kept[path] += 1
    return kept


def _shared(
    shapes: Mapping[str, Any], density: float, counted: Callable[[tuple[int, ...]], tuple[int, ...]]
) -> Densities:
    """Returns densities proportional to Σ axes / Π axes, of the axes that are counted."""
    _check(shapes, density)
    sizes = {path: math.prod(_shape(shapes[path])) for path in sorted(shapes)}
    axes = {path: counted(_shape(shapes[path])) or (1,) for path in sizes}
    raw = {path: sum(axes[path]) / max(1, math.prod(axes[path])) for path in sizes}
    total, dense = sum(sizes.values()), set[str]()
    while len(dense) < len(sizes):
        rest = density * total - sum(sizes[path] for path in dense)
        scale = rest / max(1, sum(raw[p] * sizes[p] for p in sizes if p not in dense))
        above = {path for path in sizes if path not in dense and scale * raw[path] > 1}
        if not above:
            return {path: 1.0 if path in dense else scale * raw[path] for path in sizes}
        dense |= {path for path in above if raw[path] == max(raw[p] for p in above)}
    return dict.fromkeys(sizes, 1.0)


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape) if hasattr(leaf, "shape") else tuple(leaf)


def _check(shapes: Mapping[str, Any], density: float) -> None:
    if not shapes:
        raise ValueError("there are no shapes to share a density out among")
    if not 0 <= density <= 1:
        raise ValueError(f"density {density} is outside [0, 1]")
