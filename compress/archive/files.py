"""One file a compressed network: `save` and `load`.

`format.container` has the outer form of the file, `format.streams` how an array becomes streams.
The header, a JSON object:

- `arrays`: path of an array (`params/fc1/kernel`) → its `entries.Entry`, in the file's order;
- `model`, `classes`: what `architectures.build` takes; lacking for any other module;
- `example`: the shape of an example for which the network has these arrays, where known. It tells
  the sizes, not the data: the first that fits is taken;
- `plan`: of the low-rank layers, as `lowrank.factorization` has it; of tied layers it names the
  first. Lacking if there are none;
- `share`: the groups of tied layers or leaves, as `compress.share` has them, each a list of paths
  below `params`. The first one's arrays alone are in the file. Lacking if there are none;
- `activations`: path of a layer → bits b, 2 … 16, of what it is given: it computes with the nearest
  of (k − zero point) × scale, k = 0 … 2^b − 1. `activations/PATH/scale` (float32) and
  `activations/PATH/zero_point` (int32), one number each, are among the arrays. Lacking if there are
  none.

A reader refuses a header with a key that it does not know: the network would compute otherwise.

The streams are those of the arrays, in the header's order; then the numbers of all `plain` ones,
joined in that order, one stream for each dtype, in the order in which the dtypes occur first.
"""

import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from compress import form as form_lib
from compress import quantize
from compress.archive import container, entries, fitting, forms, headers, plain, reading, streams
from compress.form import Form
from compress.share import Groups
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from lowrank import factorization


def save(
    path: str | Path,
    model: nn.Module,
    stored: Any,
    plan: factorization.Plan | None = None,
    example: tuple[int, ...] | None = None,
    groups: Groups = (),
    activations: Mapping[str, int] | None = None,
) -> None:
    """Write one network as one file: whole, or not at all; an older file is replaced.

    Args:
      path: of the file.
      model: a module of `architectures`, which the file describes; or any other, which then has to
        be given to `load` again.
      stored: variables of one network (`params` and, where there are any, `batch_stats`), nested
        dicts whose leaves are forms of `compress.quantize` or arrays. `quantize.materialize` says
        what comes back, bit for bit.
      plan: of `lowrank.factorization`, where layers are factorised; of tied ones the first.
      example: shape of one example without the batch axis, to check the network by and for `load`
        to check; otherwise usual sizes are tried.
      groups: of tied layers or leaves, whose `params` are as `share.tie` leaves them. Of a
        factorised layer no single leaf is tied.
      activations: path of a layer → bits of its inputs, whose grids `stored["activations"]` has, as
        `networks.calibrated` gives them.

    Raises:
      UserError: variables that are no such tree, are not finite or not the model's; no module; an
        example that is no shape; a nearly empty network (above 1024 entries a byte of the file, and
        more than 2^20); groups, bits or grids that the model cannot have.
      OSError: the file cannot be written.
    """
    _check_module(model)
    coded = _coded(stored)
    found = {name: array.entry for name, array in coded.items()}
    try:
        ties, bits = headers.tied(groups), headers.rounded(activations or {})
        form = Form(model, dict(plan or {}), ties, bits)
        shape = fitting.example(form, reading.leaves(found), _shape(example))
        forms.check_grids(form, {name: streams.decode(*coded[name]) for name in forms.grids(form)})
    except ValueError as error:
        raise UserError(f"the network cannot be stored: {error}") from error
    header = headers.to_json(form, shape, found)
    joined: dict[str, list[np.ndarray]] = {}
    for array in coded.values():
        if array.entry.form == "plain":
            joined.setdefault(array.entry.stored, []).append(array.numbers)
    own = [stream for array in coded.values() for stream in array.streams]
    shared = [plain.pack(np.concatenate(numbers)) for numbers in joined.values()]
    try:
        data = container.pack(header, own + shared)
        reading.parse(data)
    except ValueError as error:
        raise UserError(f"the network cannot be stored: {error}") from error
    checkpoint.write_atomically(Path(path), data)


def load(path: str | Path, model: nn.Module | None = None) -> tuple[Callable[..., Any], Any]:
    """The network of a file that `save` wrote.

    Nothing of the file is executed, every size that it declares is bounded by the network's shapes
    or by the file's bytes before anything is allocated, and what fails its checksum is refused.

    Args:
      path: of the file.
      model: the module, where the file does not describe it.

    Returns:
      `(apply, variables)`: `networks.apply_of` the network's form, which is `model.apply` but for
      low-rank and tied layers and rounded inputs; and nested dicts of arrays, of JAX, or of numpy
      where JAX has not got the dtype (64 bits, unless they are enabled).

    Raises:
      UserError: no such file, a damaged one, one of a later version, one that contradicts itself;
        no model, or one that has other arrays.
    """
    try:
        file = reading.parse(reading.read(path))
        if model is not None:
            _check_module(model)
        form = headers.form(file.parts.header, model)
        shape = headers.example(file.parts.header)
        fitting.example(form, reading.leaves(file.arrays), shape)
        arrays = reading.arrays(file)
        forms.check_grids(form, arrays)
    except (ValueError, UserError) as error:
        raise UserError(f"cannot load {path}: {' '.join(str(error).split())}") from error
    variables: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split("/")
        inner = variables
        for parent in parents:
            inner = inner.setdefault(parent, {})
        known = jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
        inner[last] = jnp.asarray(array) if known else array
    return form_lib.apply_of(form), variables


def _check_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(f"the model must be a Linen module, not {model!r}")


def _shape(example: Any) -> tuple[int, ...] | None:
    """As `load` will read it."""
    if example is None:
        return None
    try:
        return headers.example({"example": [operator.index(size) for size in example]})
    except TypeError:
        raise ValueError(f"example={example!r} is no shape") from None


def _coded(stored: Any) -> dict[str, streams.Coded]:
    """Every array of a tree, coded, by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        stored, is_leaf=lambda leaf: isinstance(leaf, quantize.Stored)
    )
    found: dict[str, streams.Coded] = {}
    for keys, leaf in leaves:
        parts = [getattr(key, "key", None) for key in keys]
        if not all(isinstance(part, str) and part and "/" not in part for part in parts):
            raise UserError(
                f"{jax.tree_util.keystr(keys) or 'the tree'} is not within nested dicts by names"
            )
        name = "/".join(map(str, parts))
        try:
            array = np.asarray(quantize.materialize(leaf))
        except TypeError as error:
            raise UserError(f"{name} is no array of numbers: {error}") from error
        if array.dtype.name not in entries.DTYPES:
            raise UserError(f"{name} is an array of {array.dtype}: {', '.join(entries.DTYPES)}")
        if entries.is_float(array.dtype.name) and not np.isfinite(array).all():
            wrong = int(np.sum(~np.isfinite(array)))
            raise UserError(f"{name}: {wrong} of {array.size} entries are not finite")
        found[name] = streams.encode(leaf, array)
    if not any(name.startswith("params/") for name in found):
        raise UserError("the variables have no params: {'params': …, 'batch_stats': …} is stored")
    return found
