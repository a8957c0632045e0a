"""The finished run of `lottery.main` whose tickets a run over stability takes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from groundwork import config as config_lib
from groundwork import copies
from groundwork.errors import UserError
from groundwork.runs import identity
from groundwork.trees import Params
from lottery import tickets
from lottery.stability.spec import StabilitySpec
from pruning import masks
from pruning.masks import Mask

SAME = ("seed", "replicates", "data", "model", "loss", "loss_kwargs", "train", "optimizer")


def check(section: StabilitySpec, config: Mapping[str, Any], params: Params) -> None:
    """Refuses a source that was not trained as this config trains, or lacks a level.

    Only then are its tickets those of the dense training here.

    Args:
      section: of the config.
      config: resolved.
      params: of the network, as shapes.

    Raises:
      UserError: a key differs, which the error names, or there is no such run or level.
    """
    folder = copies.near(section.source)
    about = identity.read_about(folder, "lottery")
    there, here = (_training(one) for one in (about["config"], config))
    for key in sorted(there.keys() | here.keys()):
        default = identity.ADDED.get(key)
        theirs, ours = (one.get(key, default) for one in (there, here))
        if theirs != ours:
            raise UserError(
                f"stability.source: {section.source} was trained with {key}={theirs!r}, not "
                f"{ours!r}: set it so, or name another run"
            )
    for level in {0, *section.levels, *section.between}:
        mask(section, level, params)


def mask(section: StabilitySpec, level: int, params: Params | None = None) -> Mask:
    """Returns the masks [R, …] of a level, checked against the parameters' shapes if given.

    Raises:
      UserError: the source lacks the level, or holds another network's masks.
    """
    try:
        found = tickets.load(section.source, level).mask
        if params is not None:
            one = jax.tree.map(lambda leaf: leaf[0], found)
            masks.check_within(one, params)
    except ValueError as error:
        raise UserError(f"stability.source: {error}") from error
    return found


def prunable(section: StabilitySpec) -> Callable[[str], bool]:
    """Returns path → whether masks have it: as in the source, or else kernels."""
    return mask(section, 0).__contains__ if section.source else masks.is_kernel


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a config that decide how the dense network is trained."""
    flat = config_lib.flatten({key: config[key] for key in SAME if key in config})
    apart = identity.NOT_IDENTITY
    return {key: value for key, value in flat.items() if not key.startswith(apart)}
