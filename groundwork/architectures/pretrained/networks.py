"""Whole networks out of files of weights, and as PyTorch's state dicts. Read `load` first."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from groundwork import paths, trees
from groundwork.architectures import registry
from groundwork.architectures.pretrained import conversion, families, files
from groundwork.architectures.pretrained.conversion import Layers, Named
from groundwork.errors import ArgumentError
from groundwork.numerics import safetensors
from groundwork.trees import Shapes, Variables

FEW = 8  # names that differ between weights of one network, at most; more is another network
ALIKE = 0.7  # share of the layers' names, of two networks, that makes them look alike
OURS = "params/"  # how our names begin, in an .npz file
OUTPUT = "params/output/kernel"  # of the layer that gives the classes


def load(name: str | Mapping[str, Any], path: str | Path, classes: int = 1000) -> Variables:
    """Returns the variables of a network out of a file of weights, which executes nothing.

    Each tensor of the file must be needed, and have the network's shape. Floats of any width
    become the network's; BatchNorm's counters of batches are left out.

    Args:
      name: one of `families.LAYERS`; or a config's section `model`, for widths and settings of
        the family, such as {"name": "mobilenet_v2", "width": 1.4}.
      path: of a `.safetensors`, `.npz`, `.pth` or `.pt` file, see `files.near` and `files.read`.
        Tensors have PyTorch's names: those of torchvision or timm, see the family's file here. In
        an `.npz` file they may have ours, such as `params/conv1/kernel`.
      classes: number of outputs.

    Returns:
      Nested dicts of NumPy arrays.

    Raises:
      UserError, also a ValueError: the file cannot be read, or is not of this network.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import pretrained
        >>> small = {"name": "alexnet", "width": 1 / 64}
        >>> shapes = architectures.shapes(architectures.build(small, classes=2), (224, 224, 3))
        >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        >>> pretrained.save("small.safetensors", pretrained.to_torch(small, variables))
        >>> loaded = pretrained.load(small, "small.safetensors", classes=2)
        >>> loaded["params"]["output"]["bias"].tolist()
        [1.0, 1.0]
    """
    module, shapes = _network(name, classes)
    return read(module, path, shapes)


def read(module: nn.Module, path: str | Path, shapes: Shapes) -> Variables:
    """Returns the variables of a network, as `load`.

    Args:
      module: of the network.
      path: see `load`.
      shapes: of its variables.

    Raises:
      UserError: see `load`.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import pretrained
        >>> model = architectures.build({"name": "alexnet", "width": 1 / 64}, classes=2)
        >>> shapes = architectures.shapes(model, (224, 224, 3))
        >>> pretrained.save("other.safetensors", {"fc.weight": np.ones((2, 3))})
        >>> pretrained.read(model, "other.safetensors", shapes)
        Traceback (most recent call last):
        groundwork.errors.ArgumentError: other.safetensors does not serve for alexnet: it holds the
        weights of another network: 0 of the 16 tensors of alexnet are among its 1
    """
    name = _name(module)
    fitting: list[Layers] = []

    def check(headers: files.Headers) -> None:
        if any(key.startswith(OURS) for key in headers):
            _check_ours(headers, shapes)
            return
        layers = naming(name, module, headers)
        _check_network(name, layers, headers, shapes)
        conversion.check(layers, headers, shapes)
        fitting.append(layers)

    near = files.near(path)
    try:
        tensors = files.read(near, check)
    except ValueError as error:
        raise ArgumentError(f"{path} does not serve for {name}: {error}") from error
    if fitting:
        return conversion.from_torch(fitting[0], tensors, shapes)
    flat = {key: tensors[key].astype(leaf.dtype) for key, leaf in trees.flatten(shapes).items()}
    return trees.unflatten(flat, shapes)


def to_torch(name: str | Mapping[str, Any], variables: Variables) -> dict[str, np.ndarray]:
    """Returns a network's variables as a state dict in PyTorch's names and layouts.

    `save` writes it. BatchNorm's counters of batches are 0.

    Args:
      name: see `load`.
      variables: of the network, for any number of classes.

    Raises:
      UserError, also a ValueError: PyTorch's names are not known, or the variables are not the
        network's.

    Example:
        >>> from groundwork import architectures
        >>> from groundwork.architectures import pretrained
        >>> small = {"name": "alexnet", "width": 1 / 64}
        >>> shapes = architectures.shapes(architectures.build(small, classes=2), (224, 224, 3))
        >>> variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        >>> tensors = pretrained.to_torch(small, variables)
        >>> variables["params"]["conv1"]["kernel"].shape, tensors["features.0.weight"].shape
        ((11, 11, 3, 1), (1, 3, 11, 11))
    """
    leaves = trees.flatten(variables)
    output = [leaf.shape[-1] for path, leaf in leaves.items() if path == "params/output/kernel"]
    module, shapes = _network(name, *output or [1])
    try:
        _check_ours(leaves, shapes)
    except ValueError as error:
        raise ArgumentError(f"the variables are not those of {_name(module)}: {error}") from error
    return conversion.to_torch(families.LAYERS[_name(module)](module), variables)


def naming(name: str, module: nn.Module, tensors: Iterable[str]) -> Layers:
    """Returns PyTorch's names of the layers, of the ways in which they are written the likeliest.

    Args:
      name: of the network.
      module: that was built by it.
      tensors: names of a state dict, such as `layer1.0.conv1.weight`; most of them decide.
    """
    ways = (families.LAYERS[_known(name)], *families.OTHERS.get(name, ()))
    there = _layers_of(tensors)
    return max((way(module) for way in ways), key=lambda layers: len(there & _names(layers)))


def save(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as a `.safetensors` file, which PyTorch's tools read; see `to_torch`.

    Raises:
      UserError, also a ValueError: the path ends in anything else or cannot be written, or an
        array's type does not exist there.

    Example:
        >>> from pathlib import Path
        >>> from groundwork.architectures import pretrained
        >>> from groundwork.numerics import safetensors
        >>> pretrained.save("layer.safetensors", {"fc.weight": np.array([[1.0, 2.0]])})
        >>> safetensors.read(Path("layer.safetensors"))["fc.weight"].tolist()
        [[1.0, 2.0]]
    """
    file = paths.given(path)
    if file.suffix != ".safetensors":
        raise ArgumentError(f"{path} must end in .safetensors")
    try:
        safetensors.write(file, {name: np.asarray(array) for name, array in tensors.items()})
    except (ValueError, OSError) as error:
        raise ArgumentError(f"{path} cannot be written: {error}") from error


def _network(name: str | Mapping[str, Any], classes: int) -> tuple[Any, Shapes]:
    """Returns a network whose names in PyTorch are known, and the shapes of its variables."""
    module = registry.build({"name": name} if isinstance(name, str) else name, classes)
    _known(_name(module))
    return module, registry.shapes(module, module.image)


def _name(module: Any) -> str:
    section = registry.section(module)
    return section["name"] if section else type(module).__name__


def _known(name: str) -> str:
    if name not in families.LAYERS:
        raise ArgumentError(
            f"PyTorch's names are not known of {name}, but of {', '.join(sorted(families.LAYERS))}"
        )
    return name


def _check_network(name: str, layers: Layers, headers: files.Headers, shapes: Shapes) -> None:
    """Refuses the weights of another network as a whole, or those for other classes."""
    leaves = trees.flatten(shapes)
    needed = {conversion.name_of(layers, path)[0] for path in leaves}
    there = conversion.without_counters(headers)
    if len(needed ^ there) > FEW:
        raise ValueError(
            f"it holds the weights of another network: {len(needed & there)} of the {len(needed)} "
            f"tensors of {name} are among its {len(there)}{_nearest(_layers_of(headers))}"
        )
    output = headers.get(conversion.name_of(layers, OUTPUT)[0])
    if output is not None and output.shape[:1] != leaves[OUTPUT].shape[-1:]:
        raise ValueError(
            f"it has {output.shape[0] if output.shape else 0} classes, not "
            f"{leaves[OUTPUT].shape[-1]}"
        )


def _nearest(there: set[str]) -> str:
    """Returns words for the network whose layers have these names, if one has nearly all."""
    known: dict[str, float] = {}
    for name, first in families.LAYERS.items():
        module = registry.build({"name": name}, 1)
        for way in (first, *families.OTHERS.get(name, ())):
            names = _names(way(module))
            known[name] = max(known.get(name, 0), len(there & names) / len(there | names))
    best = max(known, key=lambda name: known[name])
    return f"; its layers are named as those of {best}" if known[best] > ALIKE else ""


def _names(layers: Layers) -> set[str]:
    return {given.name if isinstance(given, Named) else given for given in layers.values()}


def _layers_of(headers: Iterable[str]) -> set[str]:
    return {key.rpartition(".")[0] for key in conversion.without_counters(headers)}


def _check_ours(headers: Mapping[str, Any], shapes: Shapes) -> None:
    wanted = trees.flatten(shapes)
    if missing := wanted.keys() - headers.keys():
        raise ValueError(f"there is no {conversion.listed(missing)}")
    if left := headers.keys() - wanted.keys():
        raise ValueError(f"the network has no {conversion.listed(left)}")
    for path, leaf in wanted.items():
        given, meant = tuple(headers[path].shape), tuple(leaf.shape)
        if given != meant:
            hint = ": take one replicate" if given[1:] == meant else ""
            raise ValueError(f"{path} has the shape {given}, not {meant}{hint}")
        if not jnp.issubdtype(headers[path].dtype, jnp.floating):
            raise ValueError(f"{path} is of {headers[path].dtype}, not of floats")
