"""A network's function whose convolutions stay within a budget of scratch memory."""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from groundwork.traced import walk
from groundwork.traced.macs import programs_in
from groundwork.traced.predictions import budget, rules
from groundwork.traced.predictions import flat as flat_lib
from groundwork.traced.predictions.flat import Constant


def bounded(closed: Any, paths: Sequence[str], most: int) -> Callable[..., list[Any]]:
    """Returns a function of the arguments of a jaxpr → its outputs, by convolutions that fit.

    Those that become part of a chain stay as they are, since `budget.form` chooses theirs.

    Args:
      closed: the jaxpr of a network in evaluation.
      paths: of the parameters, which are its first arguments.
      most: bytes of scratch memory that each convolution may take.

    Raises:
      ValueError: no form of a convolution fits, or it has none whose memory is known.
    """
    flat = flat_lib.flat(closed)
    layers = budget.names(flat, paths)
    weights = {*flat.inputs[: len(paths)], *flat.constants}

    def outputs(*arguments: Any) -> list[Any]:
        values = dict(zip(flat.inputs, arguments, strict=True)) | flat.constants
        known = set(weights)

        def read(name: Any) -> Any:
            return name.value if isinstance(name, Constant) else values[name]

        for equation, inputs, made in flat.equations:
            is_known = [isinstance(name, Constant) or name in known for name in inputs]
            compute = None
            if all(is_known):
                known |= set(made)
            elif rules.is_convolution(equation):
                layer = budget.layer_of(layers, inputs[1])
                compute = _instead(equation, is_known, most, layer)
            else:
                _refuse_inside(equation, most)
            given = list(map(read, inputs))
            found = [compute(*given)] if compute else walk.bind(equation, given)
            values.update(zip(made, found, strict=True))
        return list(map(read, flat.outputs))

    return outputs


def _instead(
    equation: Any, is_known: Sequence[bool], most: int, layer: str
) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """Returns what takes the place of a convolution of data, None if it stays."""
    avals = [variable.aval for variable in (*equation.invars[:2], *equation.outvars)]
    geometry = rules.geometry(equation, *(tuple(aval.shape) for aval in avals))
    if geometry is None or len({aval.dtype for aval in avals}) != 1:
        raise ValueError(
            f"compute_memory={most}: the convolution {layer!r} is none of images [N, H, W, C] by a "
            "kernel [KH, KW, C, O] of one type, so that its memory is not known"
        )
    if not is_known[0] and is_known[1] and rules.is_onednns(geometry, *avals):
        return None
    needed = budget.by_xla(geometry, str(avals[0].dtype))
    for name in budget.BY_XLA:
        if needed[name] <= most:
            return budget.compute(name, geometry)
    raise budget.refusal(layer, most, needed)


def _refuse_inside(equation: Any, most: int) -> None:
    """Refuses an equation, such as a scan, that has convolutions inside."""
    if any(map(_convolves, equation.params.values())):
        name = equation.primitive.name
        raise ValueError(
            f"compute_memory={most}: a convolution inside of a {name}, whose form cannot be chosen"
        )


def _convolves(value: Any) -> bool:
    """Is there a convolution inside of a parameter of an equation?"""
    return any(
        rules.is_convolution(equation) or any(map(_convolves, equation.params.values()))
        for program in programs_in(value)
        for equation in program.eqns
    )
