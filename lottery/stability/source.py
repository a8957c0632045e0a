"""The finished run of `lottery.main` whose tickets a run over stability takes."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from groundwork import config as config_lib
from groundwork import copies, errors
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs import identity
from groundwork.runs.run import Run
from groundwork.trees import Params
from lottery import tickets
from lottery.stability.spec import StabilitySpec, pair_name, path_name, paths
from pruning import masks
from pruning.masks import Mask

SAME = ("seed", "replicates", "data", "model", "loss", "loss_kwargs", "train", "optimizer")
TAKEN = "ticket.source"  # of a run whose tickets are another's


def check(
    section: StabilitySpec,
    config: Mapping[str, Any],
    params: Params,
    data: str,
    own: Mapping[str, str],
) -> None:
    """Refuses a source that was not trained as this config trains, or lacks a level.

    Only otherwise are its tickets those of the dense training here.

    Args:
      section: of the config.
      config: resolved.
      params: of the network, as shapes.
      data: the digest of the data.
      own: see `Prepared.own`.

    Raises:
      UserError: a key, the data or code of the user's own differs, which the error names; or there
        is no such run or level.
    """
    with errors.about("stability.source", UserError):
        about = identity.read_about(copies.near(section.source), "lottery")
    there, here = (_training(one) for one in (about["config"], config))
    for key in sorted(there.keys() | here.keys()):
        default = identity.ADDED.get(key)
        theirs, ours = (one.get(key, default) for one in (there, here))
        if theirs != ours:
            raise UserError(
                f"stability.source: {section.source} was trained with {key}={theirs!r}, not "
                f"{ours!r}: set it so, or name another run"
            )
    if about.get("data", data) != data:
        raise UserError(
            f"stability.source: {section.source} was trained on other data: give the same, or name "
            "another run"
        )
    for name, digest in own.items():
        if about.get("own", {}).get(name) != digest:
            raise UserError(
                f"stability.source: {section.source} was trained when {name}={here[name]} computed "
                "something else: name another run"
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
    except (UserError, ValueError) as error:
        raise UserError(f"stability.source: {error}") from error
    return found


def prunable(section: StabilitySpec) -> Callable[[str], bool]:
    """Returns path → whether masks have it: as in the source, or else kernels."""
    return mask(section, 0).__contains__ if section.source else masks.is_kernel


def known(section: StabilitySpec, run: Run, done: frozenset[str]) -> dict[str, str]:
    """Returns by what the source is known, for the metadata of paths; {} if it is not needed.

    Args:
      section: of the config.
      run: over stability.
      done: its units that are done.

    Raises:
      UserError: the source is gone, or is another run than that of the paths that are done.
    """
    names = [path_name(*path) for path in paths(section)]
    names += [pair_name(*pair) for pair in section.pairs]
    if not section.source or done.issuperset(names):
        return {}
    with errors.about("stability.source", UserError):
        folder = copies.near(section.source, identity.FILE)
        now = str(identity.read_about(folder, "lottery").get("id", ""))
    if earlier := [name for name in names if name in done][:1]:
        before = processes.on_first(lambda: run.unit(*earlier).verify())
        if before.get("source", now) != now:
            raise UserError(
                f"stability.source: {section.source} holds another run than when this one began: "
                "bring that back, or give another --workdir"
            )
    return {"source": now}


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of a config that decide how the dense network is trained."""
    flat = config_lib.flatten({key: config[key] for key in SAME if key in config})
    apart = identity.NOT_IDENTITY
    alike = {key: value for key, value in flat.items() if not key.startswith(apart)}
    return {**alike, TAKEN: config.get("ticket", {}).get("source", "")}
