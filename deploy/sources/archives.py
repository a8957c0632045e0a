"""A network of a `.cna` file, with the integers that the file has of its kernels."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from compress import archive
from compress import form as form_lib
from compress.archive import headers, plain, reading
from compress.archive.entries import Entry
from compress.form import Form
from deploy.graphs.graph import Grid, Stored
from deploy.sources.network import Network
from groundwork import trees
from groundwork.errors import UserError

HIGHEST = 127  # of codes, and −127 the lowest
_PARAMS = "params/"


def load(path: Path, model: Any = None) -> Network:
    """Returns the network of a file.

    Kernels with evenly spaced values of at most 8 bits and symmetric keep their integers. The
    remarks name the other kernels of few bits, whose values stay and whose integers or codebooks do
    not, and the layers whose inputs the network rounds: engines have grids of their own.

    Args:
      path: of the file.
      model: the network, if the file does not describe it.

    Raises:
      UserError: see `compress.load`.
    """
    apply, variables = archive.load(path, model)
    file = reading.parse(reading.read(path))
    stored, remarks = {}, []
    entries = {name: entry for name, entry in file.arrays.items() if _is_kernel(name, entry)}
    for name, entry in entries.items():
        codes = _codes(entry, file.streams[name], _at(variables, name))
        if codes is not None:
            stored[name.removeprefix(_PARAMS)] = codes
    lost = [n.removeprefix(_PARAMS) for n, e in entries.items() if e.form != "plain"]
    if lost := [name for name in lost if name not in stored]:
        remarks.append(
            f"{', '.join(lost)}: the file has codebooks or integers that are no multiples of one "
            "step about zero; the values are kept as floats, and rounded anew for int8"
        )
    if "kept" in file.parts.header:
        return Network(model=apply, variables=variables, stored=stored, remarks=tuple(remarks))
    form = headers.form(file.parts.header, model)
    grids = _grids(form, variables)
    if form.activations:
        remarks.append(
            f"inputs of {', '.join(form.activations)}: the network rounds them to grids of its "
            "own, which engines do not; for int8 all values are calibrated again"
        )
        variables = {n: tree for n, tree in variables.items() if n != form_lib.ACTIVATIONS}
    bare = form._replace(activations=form_lib.NONE, gradients=form_lib.NONE)
    return Network(
        model=bare if isinstance(form, Form) else apply,
        variables=variables,
        stored=stored,
        remarks=tuple(remarks),
        grids=grids,
        example=headers.example(file.parts.header),
    )


def _grids(form: Form, variables: Any) -> dict[str, Grid]:
    """Returns the grids of layers' inputs; their integers begin at 0, those of `Grid` do not."""
    held = trees.flatten(variables.get(form_lib.ACTIVATIONS, {}))
    found = {}
    for path, bits in form.activations.items():
        grid = form_lib.grid(held, path, bits)
        zero = int(grid.zero_point) - 2 ** (bits - 1)
        found[path] = Grid(float(grid.scale), zero, bits)
    return found


def _is_kernel(name: str, entry: Entry) -> bool:
    return name.startswith(_PARAMS) and name.endswith("kernel") and len(entry.shape) > 1


def _at(variables: Any, name: str) -> np.ndarray:
    for part in name.split("/"):
        variables = variables[part]
    return np.asarray(variables)


def _codes(entry: Entry, streams: Any, array: np.ndarray) -> Stored | None:
    """Returns the integers of evenly spaced values, if they are such as `Stored` has."""
    last = len(entry.shape) - 1
    if entry.form != "scaled" or entry.axis not in (-1, last) or entry.dtype != "float32":
        return None
    lowest, highest = entry.lowest, entry.lowest + entry.levels - 1
    if lowest < -HIGHEST or highest > HIGHEST:
        return None
    parts = dict(zip(entry.kinds, streams, strict=True))
    scales = plain.read(parts["codebook"], entry.stored).astype(np.float32)
    if scales.size != (math.prod(entry.shape[last:]) if entry.axis == last else 1):
        raise UserError(f"{scales.size} scales for the last axis of {entry.shape}")
    scales = np.broadcast_to(scales, entry.shape[last:]).copy()
    scales = np.where(scales == 0, np.float32(1), scales)
    return Stored(np.rint(array / scales).astype(np.int8), scales)
