"""Primitive → the operations that it becomes, in one literal table; a file for each kind."""

from collections.abc import Mapping
from types import MappingProxyType

from deploy.graphs.rules import entries, moves, places, products, reductions
from deploy.graphs.rules.entries import plain
from deploy.graphs.step import Lowering
from groundwork.architectures.cpu.primitive import convolution_p

RULES: Mapping[str, Lowering] = MappingProxyType(
    {
        convolution_p.name: products.convolution,
        "conv_general_dilated": products.conv_general_dilated,
        "dot_general": products.dot_general,
        # entry by entry
        "add": plain("add"),
        "add_any": plain("add"),
        "sub": plain("sub"),
        "mul": plain("mul"),
        "div": plain("div", of_floats=True),
        "max": plain("max"),
        "min": plain("min"),
        "pow": plain("pow", of_floats=True),
        "exp": plain("exp"),
        "log": plain("log"),
        "tanh": plain("tanh"),
        "logistic": plain("sigmoid"),
        "erf": plain("erf"),
        "sqrt": plain("sqrt"),
        "rsqrt": plain("rsqrt"),
        "neg": plain("neg"),
        "abs": plain("abs"),
        "sign": plain("sign"),
        "eq": plain("equal"),
        "lt": plain("less"),
        "gt": plain("greater"),
        "ne": plain("ne"),
        "le": plain("le"),
        "ge": plain("ge"),
        "and": plain("and"),
        "or": plain("or"),
        "not": plain("not"),
        "square": entries.integer_pow,
        "integer_pow": entries.integer_pow,
        "log1p": entries.log1p,
        "expm1": entries.expm1,
        "exp2": entries.exp2,
        "erfc": entries.erfc,
        "is_finite": entries.is_finite,
        "clamp": entries.clamp,
        "select_n": entries.select,
        "convert_element_type": entries.convert,
        # reductions
        "reduce_sum": reductions.over_axes("sum"),
        "reduce_max": reductions.over_axes("reduce_max"),
        "reduce_min": reductions.reduce_min,
        "reduce_window_max": reductions.over_windows("max_pool"),
        "reduce_window_sum": reductions.over_windows("sum_pool"),
        # movements
        "reshape": moves.reshape,
        "squeeze": moves.reshape,
        "expand_dims": moves.reshape,
        "transpose": moves.transpose,
        "broadcast_in_dim": moves.broadcast_in_dim,
        "concatenate": moves.concatenate,
        "stack": moves.stack,
        "unstack": moves.unstack,
        "tile": moves.tile,
        "slice": moves.slice_,
        "split": moves.split,
        "dynamic_slice": moves.dynamic_slice,
        "rev": places.reverse,
        "pad": places.pad,
        "gather": places.gather,
    }
)
"""Some operations are none of `graph.OPERATIONS`: what rewrites them stands in `recognise` and
`tidy`, and one that is left is refused."""
