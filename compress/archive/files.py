"""Saves and loads one compressed network as one file. Read `save` and `load`.

`container` has the outer form of the file, and `streams` explains how an array becomes streams. The
header is a JSON object with these keys:

- `arrays`: path of an array (`params/fc1/kernel`) → its `entries.Entry`, in the file's order.
- `model`, `classes`: what `architectures.build` takes. Any other module has neither.
- `example`: the shape of an example for which the network has these arrays, if one is known. It
  tells the sizes, not the data: it is the first shape that fits.
- `plan`: of the low-rank layers, as `lowrank.factorization` takes it; of tied layers it names the
  first. It is left out if there are none.
- `share`: the groups of tied layers or leaves, as `compress.share` takes them, each a list of paths
  below `params`. Only the arrays of the first path are in the file. It is left out if there are
  none.
- `activations`: path of a layer → bits b of its inputs, 2 … 16. The layer computes with the nearest
  of (k − zero point) × scale for k = 0 … 2^b − 1. `activations/PATH/scale` (float32) and
  `activations/PATH/zero_point` (int32), one number each, are among the arrays. It is left out if
  there are none.
- `kept`: the units that a network without some of them has, as `kept` explains. It is left out if
  all are kept; the arrays are those of the narrow network, and `model` is the whole one.

A reader refuses a header with a key that it does not know, since the network would compute
something else.

The streams are those of the arrays, in the header's order. Then follow the numbers of all `plain`
arrays, joined in that order: one stream for each dtype, in the order in which the dtypes first
occur.
"""

import operator
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from compress import form as form_lib
from compress import quantize
from compress.archive import (
    computing,
    container,
    entries,
    fitting,
    forms,
    headers,
    kept,
    plain,
    reading,
    streams,
)
from compress.archive import trees as trees_lib
from compress.form import Form
from compress.share import Groups
from groundwork import buckets, trees
from groundwork.errors import UserError
from groundwork.traced import network
from lowrank import factorization


def save(
    path: str | Path,
    model: Any,
    stored: Any,
    plan: factorization.Plan | None = None,
    example: Any = None,
    groups: Groups = (),
    activations: Mapping[str, int] | None = None,
    **kwargs: Any,
) -> None:
    """Writes one network as one file, whole or not at all; an older file is replaced.

    Args:
      path: of the file.
      model: a module of `architectures`, which the file describes; or any other Linen module, or
        any function (variables, …) → outputs, which `load` must then be given again. A module
        without some units (`pruning.structured.narrow`) is stored with the places of those kept.
      stored: variables of one network (`params` and, if there are any, `batch_stats`): nested dicts
        whose leaves are forms of `compress.quantize` or arrays. `load` returns what
        `quantize.materialize` makes of them, bit for bit. With a function it may be any pytree.
      plan: as `lowrank.factorization` takes it, if layers are factorised; of tied ones the first.
        A function has neither this nor `groups` nor `activations`: give the function that
        `lowrank.factorize` returned, with its variables.
      example: shape of one example without the batch axis, for which this function and `load` check
        the network. Otherwise usual sizes are tried. For a module that takes something else than
        one array of floats, what it is called with: arrays or shapes, several of them in a tuple;
        this function then checks the network, and `load` does so by `like`.
      groups: of tied layers or leaves, whose `params` are as `share.tie` leaves them. No single
        leaf of a factorised layer is tied.
      activations: path of a layer → bits of its inputs. Their grids are in `stored["activations"]`,
        as `form.calibrated` gives them.
      **kwargs: of the module's call, beside an example of arrays, such as `train=False`.

    Raises:
      UserError: the variables are not such a tree, are not finite or are not the model's; there is
        no module and no function; the example is none; the network is nearly empty (more than 1024
        entries per byte of the file, and more than 2^20); the model cannot have the groups, bits or
        grids.
      OSError: the file cannot be written.

    Example:
        >>> import os
        >>> import compress
        >>> kernel = jax.random.normal(jax.random.key(0), (80, 100))  # 32,000 bytes of float32
        >>> variables = {"params": {"kernel": compress.quantize.binary(kernel, scaled=True)}}
        >>> network = lambda variables, inputs: inputs @ variables["params"]["kernel"]
        >>> compress.save("net.cna", network, variables)
        >>> round(32_000 / os.path.getsize("net.cna"))  # times smaller
        29
    """
    _check_model(model)
    narrow = model if kept.is_narrow(model) else None
    model = model.graph.model if kept.is_narrow(model) else model
    is_module = forms.is_module(model)
    coded = _coded(_in_dicts(stored) if is_module else trees_lib.named(stored))
    arrays = {name: array.entry for name, array in coded.items()}
    try:
        ties, bits = headers.tied(groups), headers.rounded(activations or {})
        form = Form(model, dict(plan or {}), ties, bits)
        shape = None
        if kwargs and not (is_module and _is_called_with(example)):
            raise ValueError(f"{', '.join(kwargs)}: keywords of a call need an example of arrays")
        if narrow is not None:
            shape, units = _narrow(narrow, form, reading.leaves(arrays), example)
        elif is_module:
            shape = fitting.example(form, reading.leaves(arrays), _shape(example), kwargs)
        elif form.plan or form.groups or form.activations or example is not None:
            raise ValueError(
                "a function that is no Linen module takes no plan, example, groups or activations; "
                "save the function that lowrank.factorize returned, with its variables"
            )
        forms.check_grids(form, {name: streams.decode(*coded[name]) for name in forms.grids(form)})
    except ValueError as error:
        raise UserError(f"the network cannot be stored: {error}") from error
    header = headers.to_json(form, shape, arrays)
    if narrow is not None:
        header["kept"] = units
    try:
        version = 1 + any(entry.adaptive for entry in arrays.values())
        data = container.pack(header, _streams(coded.values()), version)
        reading.parse(data)
    except ValueError as error:
        raise UserError(f"the network cannot be stored: {error}") from error
    buckets.write(path, data)


def load(
    path: str | Path, model: Any = None, like: Any = None, *, compute: str = computing.DENSE
) -> tuple[Callable[..., Any], Any]:
    """Returns the network of a file that `save` wrote.

    Nothing in the file is executed. Every size that it declares is bounded by the network's shapes
    or by the file's bytes before anything is allocated, and a wrong checksum is refused.

    Args:
      path: of the file.
      model: the module or function, if the file does not describe it. Of a network without some
        units, the whole one, or the narrow one.
      like: a tree of arrays or shapes, as `save` was given: the arrays must be its own, and the
        result has its structure. A function that is no Linen module needs it.
      compute: `dense`: in floats, with the values that the file stores. `sparse`: likewise, but
        layers are computed without the zeros of their kernels where that is faster. `int8`: in
        integers, of kernels of at most 8 symmetric bits and inputs of 8 bits, which all layers must
        have; fast on CPUs with AVX-512.

    Returns:
      `(apply, variables)`. `apply` is `form.apply_of` the network's form, which is `model.apply`
      unless layers are factorised or tied, or inputs rounded. `variables` are nested dicts of JAX
      arrays, or of numpy arrays of dtypes that JAX lacks (64 bits, unless they are enabled); or a
      tree as `like`. With `sparse`, `apply` is compiled, once for each shape of inputs; it takes
      these variables alone, and keywords that are hashable settings, such as `train=False`. With
      `int8`, `apply(variables, inputs)` predicts for a batch of any size, and `variables` are
      arrays for this machine: save the file, not them.

    Raises:
      UserError: there is no such file; it is damaged, of a later version, or contradicts itself;
        there is no model, or a model that has other arrays; there is no such `compute`, or the file
        lacks what it needs, and then the message says how to make such a file.

    Example:
        >>> import compress
        >>> network = lambda variables, inputs: inputs @ variables["params"]["kernel"]
        >>> variables = {"params": {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]])}}
        >>> compress.save("net.cna", network, variables)
        >>> apply, loaded = compress.load("net.cna", network, like=variables)
        >>> apply(loaded, jnp.ones((1, 2))).tolist()
        [[4.0, 6.0]]
    """
    if compute != computing.DENSE:
        return computing.loaded(compute, path, model, like)
    try:
        file = reading.parse(reading.read(path))
        if model is not None:
            _check_model(model)
        narrow = model if kept.is_narrow(model) else None
        whole = model.graph.model if kept.is_narrow(model) else model
        form, leaves = headers.form(file.parts.header, whole), reading.leaves(file.arrays)
        shape = headers.example(file.parts.header)
        if like is not None:
            trees_lib.check_like(like, leaves)
        if narrow is not None or "kept" in file.parts.header:
            made: Any = _kept(file.parts.header, form, narrow)
            kept.check(made, leaves)
            form = Form(made)
        elif forms.is_module(form.model):
            fitting.example(form, leaves, shape)
        elif like is None or form.plan or form.groups or form.activations:
            raise UserError(
                "a function that is no Linen module needs like=, and a file without form"
            )
        arrays = reading.arrays(file)
        forms.check_grids(form, arrays)
    except (ValueError, UserError) as error:
        raise UserError(f"cannot load {path}: {' '.join(str(error).split())}") from error
    variables = {
        name: jnp.asarray(array)
        if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
        else array
        for name, array in arrays.items()
    }
    if not (forms.is_module(form.model) or kept.is_narrow(form.model)):
        return network.apply_of(form.model), trees_lib.unnamed(variables, like)
    if like is not None:
        return form_lib.apply_of(form), trees_lib.unnamed(variables, like)
    return form_lib.apply_of(form), unflatten_dict(variables, sep="/")


def _narrow(
    narrow: kept.Narrowed, form: Form, leaves: forms.Leaves, example: Any
) -> tuple[tuple[int, ...] | None, dict[str, Any]]:
    """Returns the shape of an example and the header's `kept` of a narrow network, checked."""
    leaves_of = jax.tree.leaves(example) if _is_called_with(example) else []
    if [str(leaf.dtype) for leaf in leaves_of] not in ([], ["int32"]):
        raise ValueError(
            "the example of a network without some units is the shape of one, such as (28, 28, 1), "
            "or one array of int32; if that cannot say it, save the function narrow.apply, to be "
            "given to load again"
        )
    if form.plan or form.groups or form.activations:
        raise ValueError("a network without some units takes no plan, groups or activations")
    shape = fitting.example(form, kept.of(narrow.graph.shapes), _shape(example))
    kept.check(narrow, leaves)
    if leaves_of:
        shape = tuple(leaves_of[0].shape[1:])
        return shape, kept.to_json(narrow, shape, "int32")
    return shape, kept.to_json(narrow, shape)


def _kept(header: Mapping[str, Any], form: Form, given: kept.Narrowed | None) -> kept.Narrowed:
    """Returns the narrow network of a file, which must be the given one, if one is given."""
    if "kept" not in header:
        raise ValueError("it holds a whole network, not one without some units")
    if form.plan or form.groups or form.activations:
        raise ValueError("it keeps some units alone, of layers that are of another form")
    made = kept.network(header["kept"], form.model, headers.example(header))
    if given is not None and not kept.same(made, given):
        raise ValueError("it keeps other units than the given network")
    return made


def _check_model(model: Any) -> None:
    is_function = callable(network.apply_of(model)) and not isinstance(model, type)
    if not forms.is_module(model) and not is_function:
        raise UserError(f"the model must be a Linen module or a function, not {model!r}")


def _is_called_with(example: Any) -> bool:
    """Returns whether an example is what a module is called with, and not the shape of it."""
    leaves = jax.tree.leaves(example)
    return bool(leaves) and all(hasattr(leaf, "dtype") for leaf in leaves)


def _shape(example: Any) -> Any:
    """Returns the example as `load` will read it, or as the module is called with it."""
    if example is None or _is_called_with(example):
        return example
    try:
        return headers.example({"example": [operator.index(size) for size in example]})
    except TypeError:
        raise ValueError(f"example={example!r} is no shape, and no arrays") from None


def _in_dicts(stored: Any) -> dict[str, Any]:
    """Returns path → leaf of nested dicts, as Linen has them."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        stored, is_leaf=lambda leaf: isinstance(leaf, quantize.Stored)
    )
    by_path: dict[str, Any] = {}
    for keys, leaf in leaves:
        parts = [getattr(key, "key", None) for key in trees.unboxed(keys)]
        if not all(isinstance(part, str) and part and "/" not in part for part in parts):
            place = jax.tree_util.keystr(keys) or "the tree"
            raise UserError(f"{place} is not within nested dicts with string keys")
        by_path["/".join(map(str, parts))] = leaf
    return by_path


def _coded(by_path: Mapping[str, Any]) -> dict[str, streams.Coded]:
    """Returns path → array, coded."""
    coded: dict[str, streams.Coded] = {}
    spare = reading.SPARE_ADAPTIVE
    for name, leaf in by_path.items():
        coded[name] = streams.encode(
            leaf, _numbers(name, leaf), 0 if spare else reading.BYTES_AN_ADAPTIVE
        )
        spare -= int(spare and coded[name].entry.adaptive)
    if not any(name.startswith("params/") for name in coded):
        raise UserError("the variables have no params: {'params': …, 'batch_stats': …} is stored")
    return coded


def _numbers(name: str, leaf: Any) -> np.ndarray:
    """Returns the array of a stored form or an array, checked."""
    try:
        array = np.asarray(quantize.materialize(leaf))
    except TypeError as error:
        raise UserError(f"{name} is not an array of numbers: {error}") from error
    if array.dtype.name not in entries.DTYPES:
        raise UserError(f"{name} is an array of {array.dtype}: {', '.join(entries.DTYPES)}")
    if entries.is_float(array.dtype.name) and not np.isfinite(array).all():
        wrong = int(np.sum(~np.isfinite(array)))
        raise UserError(f"{name}: {wrong} of {array.size} entries are not finite")
    return array


def _streams(coded: Collection[streams.Coded]) -> list[bytes]:
    """Returns the streams of the arrays, then those that plain numbers of one dtype share."""
    plain_numbers: dict[str, list[np.ndarray]] = {}
    for array in coded:
        if array.entry.form == "plain":
            plain_numbers.setdefault(array.entry.stored, []).append(array.numbers)
    shared = [plain.pack(np.concatenate(numbers)) for numbers in plain_numbers.values()]
    return [*(stream for array in coded for stream in array.streams), *shared]
