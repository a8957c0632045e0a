"""A network with exits as a file for each of its blocks, so that what runs it can stop early."""

# B batch, K exits, N calibration examples

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deploy.exports import export
from deploy.runtimes.exits import MANIFEST
from groundwork import atomic
from groundwork.trees import Variables

Block = Callable[[Any, Any], tuple[Any, jax.Array]]


def export_exits(
    model: nn.Module | Sequence[Block],
    variables: Variables,
    example: Any,
    engine: str,
    folder: str | Path,
    int8: Any = None,
) -> list[Path]:
    """Writes each block of a network with exits as a file of an engine.

    A file takes what the block before it gives on, arrays in the order of JAX's leaves, and gives
    its own and then its exit's logits; that of the last block gives the logits alone.
    `deploy.load_exits` runs them.

    Args:
      model: a network with exits, such as `msdnet.MSDNet`; or the K blocks of any network, as
        functions (variables, features) → (features, logits [B, classes]), block 0 of the inputs.
      variables: of the network, of one replicate.
      example: an array [B, …] of inputs; its values do not matter. A batch of 1 computes nothing
        in vain, since examples leave one by one.
      engine: one of `engines.ENGINES`.
      folder: is made; the files of another network in it are replaced.
      int8: inputs [N, …] for a network of 8-bit integers, as for `export`; each block is calibrated
        with what the float blocks before it give for them. What passes between files is float.

    Returns:
      All files, the last of which says how many blocks and examples there are.

    Raises:
      ValueError: see `export`; the model has no exits.
      OSError: a file cannot be written.

    Example:
        >>> import deploy
        >>> first = lambda scale, x: (x, x)  # features for the next block, and logits
        >>> last = lambda scale, x: (None, scale * x)
        >>> example = jnp.zeros((1, 2))
        >>> files = deploy.export_exits([first, last], 10.0, example, "onnxruntime", "exits")
        >>> [path.name for path in files]
        ['block_0.onnx', 'block_1.onnx', 'exits.json']
    """
    blocks = _blocks(model)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    manifest.unlink(missing_ok=True)  # it says that all files are there
    features, calibration = example, int8
    written, names = [], []
    for k, block in enumerate(blocks):
        is_last = k == len(blocks) - 1
        made = _flat(block, features, is_last)
        files = export(
            made, variables, _leaves(features), engine, folder / f"block_{k}", _leaves(calibration)
        )
        written += files
        names.append(files[0].name)
        if not is_last:
            features = jax.eval_shape(block, variables, features)[0]
            calibration = None if int8 is None else _after(block, variables, calibration, example)
    batch = int(np.shape(jax.tree.leaves(example)[0])[0])
    atomic.write(manifest, json.dumps({"blocks": names, "batch": batch}, indent=2) + "\n")
    return [*written, manifest]


def _blocks(model: nn.Module | Sequence[Block]) -> list[Block]:
    if isinstance(model, nn.Module):
        if not hasattr(model, "exits") or not hasattr(model, "block"):
            raise ValueError(f"{type(model).__name__} has no exits: `export` writes it as one file")
        return [_of_module(model, k) for k in range(model.exits)]
    if not isinstance(model, Sequence) or not model or not all(map(callable, model)):
        raise ValueError(f"model must be a network with exits or a list of its blocks, not {model}")
    return list(model)


def _of_module(model: nn.Module, k: int) -> Block:
    def block(variables: Variables, features: Any) -> tuple[Any, jax.Array]:
        found: Any = model.apply(variables, k, features, method="block")
        return found

    return block


def _flat(block: Block, features: Any, is_last: bool) -> Callable[[Any, Any], Any]:
    """Returns a block of leaves, which gives leaves and then the logits."""
    structure = jax.tree.structure(features)

    def flat(variables: Variables, given: Any) -> Any:
        leaves = given if isinstance(given, tuple) else (given,)
        after, logits = block(variables, jax.tree.unflatten(structure, leaves))
        return logits if is_last else (*jax.tree.leaves(after), logits)

    return flat


def _leaves(features: Any) -> Any:
    """Returns the leaves of a tree as a tuple; the only one itself."""
    leaves = jax.tree.leaves(features)
    return leaves[0] if len(leaves) == 1 else tuple(leaves) or None


def _after(block: Block, variables: Variables, given: Any, example: Any) -> Any:
    """Returns what a block gives on for calibration inputs, which it takes B at a time."""
    batch = np.shape(jax.tree.leaves(example)[0])[0]
    count = len(jax.tree.leaves(given)[0])
    program = jax.jit(lambda variables, features: block(variables, features)[0])
    parts = []
    for start in range(0, count, batch):
        places = jnp.arange(start, start + batch) % count
        parts.append(program(variables, jax.tree.map(lambda leaf, at=places: leaf[at], given)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
