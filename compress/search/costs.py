"""What layers cost, for the additive model, and what a finished network really costs.

Read `table`, then `whole`.
"""

import functools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress import archive
from compress import form as form_lib
from compress.archive import plain, streams
from compress.form import Form
from compress.quantize import materialize
from compress.search import change
from compress.search.additive import COSTS, FLOAT_BITS, PER_UNIT, Costs, Layer
from compress.search.clocks import Call, Clock
from compress.search.options import Space
from compress.search.original import Original
from compress.search.settings import AS_IT_IS, Rank, Setting
from groundwork import trees
from groundwork.traced import memory
from groundwork.traced.macs import multiply_adds
from groundwork.traced.reach import Reached
from groundwork.trees import Variables
from lowrank.choose import candidates
from lowrank.choose.candidates import DENSE
from pruning.masks import Mask


def table(
    original: Original,
    space: Space,
    names: Sequence[str] = COSTS[:-1],
    clock: Clock | None = None,
    begin: Callable[[str, int], None] = lambda layer, settings: None,
) -> Costs:
    """Returns the additive costs of a network's layers, measured on its first replicate.

    Args:
      original: the network.
      space: whose options are measured; layers that it lacks are part of the rest.
      names: of `COSTS`.
      clock: measures milliseconds, if they are among the names.
      begin: is called with each layer and the number of its codings before they are made.

    Raises:
      ValueError: a name is none of `COSTS`, or milliseconds have no clock.
    """
    for name in names:
        if name not in COSTS:
            raise ValueError(f"{name!r} is none of {', '.join(COSTS)}")
    if "milliseconds" in names and clock is None:
        raise ValueError("milliseconds need a clock")
    replicate, layers = original.replicates[0], {}
    for path, options in space.options.items():
        reached = original.found.layers[path]
        wanted = sorted({(option.density, option.bits) for option in options}, reverse=True)
        wanted = wanted if "bytes" in names else []
        begin(path, len(wanted))
        before = replicate.mask.get(reached.parameter)
        layers[path] = Layer(
            size=math.prod(reached.shape),
            density=1.0 if before is None else float(before.mean()),
            coded={key: _coded(replicate, path, *key) for key in wanted},
            forms=_forms(reached, options, clock if "milliseconds" in names else None),
        )
    rest = _rest(original, names, layers, clock)
    return Costs(names=tuple(names), layers=layers, rest=rest, space=space)


def whole(
    form: Form,
    variables: Variables,
    example: Any,
    names: Sequence[str] = COSTS[:-1],
    *,
    mask: Mask | None = None,
    bits: Mapping[str, int] | None = None,
    clock: Clock | None = None,
) -> dict[str, float]:
    """Returns what one network costs: it is coded, traced and timed.

    - `bytes`: of its file.
    - `parameters`: those that are not pruned; see `compress.made.parameters`.
    - `multiply_adds`: of one example.
    - `memory_bytes`: of its parameters and of the activations of one example. Kernels take as many
      bits as their weights have, pruned ones too, all other parameters 32; activations are float32,
      see `groundwork.traced.memory.peak_bytes`.
    - `milliseconds`: of one example, by the clock.

    Args:
      form: how it computes.
      variables: of one replicate, arrays or stored forms.
      example: what it is called with, [1, …].
      names: of `COSTS`.
      mask: of what is pruned.
      bits: path of a kernel → bits, of those that have few.
      clock: measures milliseconds.
    """
    values: Any = materialize(variables)
    shaped = trees.example(example)
    measures: dict[str, Callable[[], float]] = {
        "bytes": lambda: file_bytes(form, variables, example),
        "parameters": lambda: _parameters(values["params"], mask or {}),
        "multiply_adds": lambda: multiply_adds(form_lib.evaluation(form), values, shaped),
        "memory_bytes": lambda: (
            _stored_bytes(values["params"], bits or {})
            + memory.peak_bytes(form_lib.evaluation(form), values, shaped)
        ),
        "milliseconds": lambda: _time(form, values, example, clock),
    }
    return {name: measures[name]() for name in names}


def file_bytes(form: Form, variables: Variables, example: Any) -> int:
    """Returns the size of the file of a network of one replicate, which is written and removed."""
    shape = trees.shape_of(example)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.cna"
        archive.save(
            path,
            form.model,
            variables,
            form.plan,
            (example,) if shape is None else shape,
            form.groups,
            form.activations,
        )
        return path.stat().st_size


def _coded(replicate: Any, path: str, density: float, bits: int) -> int:
    """Returns the bytes of a kernel in an archive."""
    setting = Setting(density=density, bits=bits)
    stored = change.stored_weights(replicate, path, setting, make_up=False)
    coded = streams.smallest(stored, change.values(stored))
    packed = len(plain.pack(coded.numbers)) if coded.numbers.size else 0
    return coded.cost - coded.numbers.nbytes + packed


def _forms(
    reached: Reached, options: Sequence[Setting], clock: Clock | None
) -> dict[tuple[str, Rank], tuple[int, int, int]]:
    """Returns the parameters, multiply-adds and nanoseconds of each form of a layer."""
    keys = list(dict.fromkeys((option.method, option.rank) for option in options))
    seconds = clock([_call(reached, *key) for key in keys]) if clock else [0.0] * len(keys)
    calls = len(reached.inputs) * reached.repeats
    return {
        (method, rank): (
            candidates.parameters(reached, method or DENSE, rank),
            candidates.macs(reached, method or DENSE, rank),
            round(1e6 * milliseconds * calls),
        )
        for (method, rank), milliseconds in zip(keys, seconds, strict=True)
    }


def _call(reached: Reached, method: str, rank: Rank) -> Call:
    """Returns one call of a layer on random numbers."""
    shapes, compute = candidates.abstract(reached, method or DENSE, rank)
    normal = functools.partial(np.random.default_rng(0).standard_normal, dtype=np.float32)
    params = jax.tree.map(lambda leaf: jnp.asarray(normal(leaf.shape)), shapes)
    return Call(
        lambda tree, inputs: compute(tree["kernel"], inputs),
        {"kernel": params},
        jnp.asarray(normal(reached.inputs[0])),
    )


def _rest(
    original: Original, names: Sequence[str], layers: Mapping[str, Layer], clock: Clock | None
) -> dict[str, int]:
    """Returns what a network costs beside the layers, in integers."""
    form, one = Form(original.model), original.replicates[0]
    mask: Any = one.mask
    variables = jax.tree.map(np.asarray, one.variables)
    totals = whole(form, variables, original.dataset.example, names, mask=mask, clock=clock)
    none: dict[str, float] = {}
    costs = Costs(names=tuple(names), layers=layers, rest={}, space=Space(options={}))
    rest = {}
    for name, total in totals.items():
        own = sum(costs.options(path, AS_IT_IS, none)[name] for path in layers)
        rest[name] = max(0, round(total * PER_UNIT.get(name, 1)) - own)
    return rest


def _parameters(params: Any, mask: Mapping[str, Any]) -> int:
    return sum(
        int(np.sum(mask[path])) if path in mask else math.prod(leaf.shape)
        for path, leaf in trees.flatten(params).items()
    )


def _stored_bytes(params: Any, bits: Mapping[str, int]) -> int:
    return sum(
        -(-math.prod(leaf.shape) * bits.get(path, FLOAT_BITS) // 8)
        for path, leaf in trees.flatten(params).items()
    )


def _time(form: Form, variables: Variables, example: Any, clock: Clock | None) -> float:
    if clock is None:
        raise ValueError("milliseconds need a clock")
    zeros = trees.zeros(example)
    return clock([Call(form_lib.evaluation(form), variables, zeros)])[0]
