"""Files of weights that others may have made: `.safetensors`, `.npz`, `.pth`. Read `read` first."""

import importlib.util
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from groundwork import copies
from groundwork.errors import ArgumentError, reason, shown
from groundwork.numerics import npz, safetensors

PACKAGE = "package:"  # how a path begins that names an installed package
PYTORCH = (".pth", ".pt")
SUFFIXES = (".npz", ".safetensors", *PYTORCH)
NESTED = ("state_dict", "model")  # keys under which training scripts save a network
PARALLEL = "module."  # what PyTorch's data-parallel wrappers put before each name

Headers = Mapping[str, Any]
"""Name → what has the `shape` and the `dtype` of an array."""


def is_file(path: str | Path) -> bool:
    """Returns whether a path names a file of weights, rather than the folder of a run."""
    return str(path).startswith(PACKAGE) or Path(path).suffix in SUFFIXES


def near(path: str | Path) -> Path:
    """Returns the file of this machine that a path names.

    Args:
      path: a file's, here or in a bucket; or `package:NAME`, which means the only file of weights
        inside an installed package, whose code is not run.

    Raises:
      UserError: there is no such package, or it has no or several files of weights (then also a
        ValueError); or see `copies.near_file`.
    """
    text = str(path)
    return _packaged(text) if text.startswith(PACKAGE) else copies.near_file(path)


def read(path: Path, check: Callable[[Headers], None]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file, by name, those of PyTorch without the prefix `module.`.

    Nothing in a file is executed. `.safetensors` and `.npz` are read here, `.pth` and `.pt` by
    `torch.load(weights_only=True)`; of the latter a state dict may lie under the key `state_dict`
    or `model`.

    Args:
      path: of this machine.
      check: is given the headers, under the names that are returned, and raises what it likes;
        for `.safetensors` and `.npz`, before any array is read.

    Raises:
      ValueError: the file cannot be read, or PyTorch is needed for it and not installed.
    """
    if path.suffix in PYTORCH:
        tensors = _by_pytorch(path)
        check(_plain(tensors))
        return _plain(tensors)
    if path.suffix == ".npz":
        return _plain(npz.read(path, check=lambda headers: check(_plain(headers))))
    if path.suffix == ".safetensors":
        return _plain(safetensors.read(path, check=lambda headers: check(_plain(headers))))
    raise ValueError(f"its name must end in {', '.join(SUFFIXES)}")


def _plain(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the same without the prefix `module.`, if all names have it."""
    if not all(name.startswith(PARALLEL) for name in headers):
        return dict(headers)
    return {name.removeprefix(PARALLEL): header for name, header in headers.items()}


def _by_pytorch(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError("it cannot be opened: there is no such file")
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"PyTorch reads {path.suffix} files, and is not installed: pip install torch, or save "
            "the weights as .safetensors"
        ) from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            "it is damaged, or holds more than tensors, which are not read since they may run code"
        ) from error
    except Exception as error:  # of a damaged file, PyTorch raises errors of a dozen kinds
        raise ValueError(f"PyTorch cannot read it: {reason(error)}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"it holds a {type(found).__name__}, not a state dict")
    inner = next((found[key] for key in NESTED if isinstance(found.get(key), Mapping)), found)
    return {name: _array(name, tensor) for name, tensor in inner.items()}


def _array(name: Any, tensor: Any) -> np.ndarray:
    """Returns a tensor of PyTorch's; floats that NumPy has not, such as bfloat16, as float32."""
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise ValueError(f"it is no state dict: {shown(name)} is a {type(tensor).__name__}")
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{shown(name)} is a sparse or quantised tensor")
    tensor = tensor.detach()
    known = (torch.float16, torch.float32, torch.float64)
    other = tensor.dtype.is_floating_point and tensor.dtype not in known
    return (tensor.float() if other else tensor).numpy()


def _packaged(path: str) -> Path:
    name = path.removeprefix(PACKAGE)
    if not name.isidentifier():
        raise ArgumentError(f"{path} must be {PACKAGE}NAME, where NAME is that of a package")
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ArgumentError(f"{path}: {name} is not installed: pip install {name}")
    folders = map(Path, spec.submodule_search_locations or ())
    inside = [file for folder in folders for file in folder.rglob("*") if file.suffix in SUFFIXES]
    if len(inside) != 1:
        raise ArgumentError(f"{path}: {name} has {len(inside)} files of weights inside, not one")
    return inside[0]
