"""What makes two runs the same: their command, and the keys of the config that must not change.

config.json also records the versions and the commit, since bits depend on them; a change warns.
"""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundwork import jsons, paths
from groundwork.config import flatten
from groundwork.errors import UserError, missing

FILE = "config.json"
DISTRIBUTION = "compression-and-dynamic-networks"
VERSIONED = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain", "pillow"),
    "opencv-python-headless",
)
PATHS = (
    "source.path",
    "distill.teachers",
    "ticket.source",
    "stability.source",
    "search.choice",
)  # compared as the places that they mean
NOT_IDENTITY = (
    "mesh.",
    "data.dir",
    "data.path",
    "data.workers",
    "data.cache",
    "log.",
    "checkpoint.",
    "published",
    "search.baselines",
    "search.board",
    "search.member",
)
ADDED = {  # keys that older runs lack → the value that they had in effect
    "model.dtype": "float32",
    "data.classes": [],
    "data.pad": 0,
    "data.stream": False,
    "data.test_split": "test",
    "data.image_size": 0,
    "data.augment": "none",
    "data.mean": [],
    "data.std": [],
    "loss": "cross_entropy",
    "prune.before_training": False,
    "prune.examples": 0,
    "prune.score_step": -1,
    "branches.scratch_b_at_most": 0.0,
    "ticket.source": "",
    "ticket.branch": "ticket",
    "ticket.levels": "all",
    "ticket.head": "auto",
    "source.path": "",
    "source.unit": "levels/00/ticket",
    "distill.assistants": [],
    "distill.mutual": 0,
    "distill.hints": [],
    "distill.hint_steps": 0,
    "distill.hint_weight": 1.0,
    "structured.ratio": [0.5],
    "structured.criterion": "l2",
    "structured.compensate": False,
    "equalize.cross_layer": True,
    "quantize.bias_correction": "none",
    "quantize.rate": 0.0,
    "search.parallel": 1,
    "slimmable.model.name": "resnet_20",
    "slimmable.model.width": 1.0,
    "slimmable.model.dtype": "float32",
    "slimmable.widths": [0.25, 0.5, 0.75, 1.0],
    "heads.model.name": "vgg_11",
    "heads.model.width": 0.25,
    "heads.model.dtype": "float32",
    "heads.layers": ["bn1_1", "bn2_1", "bn3_2", "bn4_2"],
    "heads.head": 0,
    "heads_2.model.name": "resnet_20",
    "heads_2.model.width": 0.5,
    "heads_2.model.dtype": "float32",
    "heads_2.layers": ["block1_3", "block2_3"],
    "heads_2.head": 0,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a run this run and no other.

    Attributes:
      command: the package that makes it, such as `lottery`.
      config: the resolved config.
      extendable: keys whose larger value extends a finished run.
      own: key of the config → a digest of what it names, where that is a user's own; None = it is
        not known, and not compared.
    """

    command: str
    config: Mapping[str, Any]
    extendable: tuple[str, ...] = ()
    own: Mapping[str, str] | None = None


def read_about(folder: Path, command: str = "") -> dict[str, Any]:
    """Returns command, config, versions and commit with which a run began.

    Args:
      folder: of the run.
      command: the package whose run this must be; by default any.

    Raises:
      UserError: the folder does not exist, or holds no run, or one of another command.
    """
    path = folder / FILE
    try:
        about = jsons.parse(path.read_bytes())
    except FileNotFoundError as error:
        gone = missing(path if folder.exists() else folder)
        raise UserError(f"{folder} holds no readable run: {gone}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} holds no readable run: {path.name}: {error}") from error
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise UserError(f"{folder} holds no readable run: {path.name} has no config")
    if not isinstance(about.get("command"), str):
        raise UserError(f"{folder} holds no readable run: {path.name} names no command")
    for name in ("own", "versions", "metric"):
        if not isinstance(about.get(name, {}), dict):
            raise UserError(f"{folder} holds no readable run: its {name} in {path.name} is damaged")
    if command and about["command"] != command:
        raise UserError(
            f"{folder} holds a run of another command, {about['command']}.main: give it to "
            f"{about['command']}.report"
        )
    return about


def section(folder: Path, about: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns a section of the config with which a run began.

    Raises:
      UserError: its config lacks it.
    """
    found = about["config"].get(name)
    if not isinstance(found, dict):
        raise UserError(f"{folder} holds no readable run: config.json lacks its {name}")
    return found


def run_id(folder: Path) -> str:
    """Returns by what a run's checkpoints know it; empty if its folder does not tell.

    Older runs, and folders that are no run of a command, lack it.
    """
    if not (folder / "config.json").exists():
        return ""
    return str(read_about(folder).get("id", ""))


def check_identity(folder: Path, identity: Identity) -> None:
    """Checks that the run in `folder` has this identity, without opening the run.

    Raises:
      UserError: there is no run, or one of another identity (see `open_run`).
    """
    refuse_other(folder, read_about(folder), identity)


def refuse_other(folder: Path, began: Mapping[str, Any], identity: Identity) -> None:
    """Checks that the run in `folder` `began` with this identity (`began`: see `read_about`).

    Raises:
      UserError: it did not; the error names the command, or each key of the config that differs,
        or whose code of the user's own does.
    """
    if began["command"] != identity.command:
        raise UserError(
            f"{folder} holds a run of another command, {began['command']}.main. Give another "
            "--workdir"
        )
    if keys := differing(began["config"], identity.config, identity.extendable):
        raise UserError(
            f"{folder} holds another run: {'; '.join(keys)}. Give another --workdir, or its config"
        )
    _refuse_other_code(folder, began, identity)


def differing(
    began: Mapping[str, Any], config: Mapping[str, Any], extendable: tuple[str, ...] = ()
) -> list[str]:
    """Returns one phrase for each key of the identity whose values differ: `… there, … here`.

    Args:
      began: the config there.
      config: the config here.
      extendable: keys that may differ.
    """
    there = flatten(began)
    here = flatten(json.loads(json.dumps(config)))
    there, here = (
        {key: value for key, value in ADDED.items() if key in other} | flat
        for flat, other in ((there, here), (here, there))
    )
    before, after = (
        {key: value for key, value in flat.items() if not _ignored(key, extendable)}
        for flat in (there, here)
    )
    keys = [
        key
        for key in sorted(before.keys() | after.keys())
        if _meant(key, before.get(key)) != _meant(key, after.get(key))
    ]
    whole = [key for key in keys if not any(key.startswith(f"{k}.") for k in keys)]
    return [f"{key} is {_side(before, key)} there, {_side(after, key)} here" for key in whole]


def _side(flat: Mapping[str, Any], key: str) -> Any:
    """Returns the value of a key, or the mapping that a run has in its place."""
    inner = {k.removeprefix(f"{key}."): v for k, v in flat.items() if k.startswith(f"{key}.")}
    return flat.get(key, inner or "not set")


def _refuse_other_code(folder: Path, began: Mapping[str, Any], identity: Identity) -> None:
    """Refuses a user's network, loss or data that are not those with which the run began."""
    if identity.own is None:
        return
    before, config = began.get("own", {}), flatten(identity.config)
    names = sorted(before.keys() | identity.own.keys())
    differing = [name for name in names if before.get(name) != identity.own.get(name)]
    if not differing:
        return
    then, now = (versions.get("jax") for versions in (began.get("versions", {}), versions()))
    other = f" (or JAX {now} writes it otherwise than JAX {then})" if then != now else ""
    changed = " and ".join(f"{name}={config.get(name)}" for name in differing)
    raise UserError(
        f"{folder} holds another run: {changed} computes something else than when it began{other}. "
        "Give another --workdir, or bring its code back"
    )


def _meant(key: str, value: Any) -> Any:
    """Returns a value of the config as it is compared: `~/x` is the same place as `/home/me/x`."""
    if key not in PATHS or not value:
        return value
    if isinstance(value, list):
        return [_meant(key, one) for one in value]
    try:
        return str(paths.given(value)) if isinstance(value, str) else value
    except UserError:  # of another machine's user
        return value


def _ignored(key: str, extendable: tuple[str, ...]) -> bool:
    return any(
        key == name or key.startswith(name.rstrip(".") + ".") for name in NOT_IDENTITY + extendable
    )


def software() -> dict[str, Any]:
    """Returns the versions and the commit."""
    return {"versions": versions(), "commit": commit()}


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that results depend on."""
    versions = {name: importlib.metadata.version(name) for name in VERSIONED}
    return {"python": sys.version.split()[0], **versions}


def commit() -> str:
    """Returns the commit of this code, with a + if files have changed, or "unknown".

    Of installed code it is the commit that pip installed, or else the version.
    """
    here = Path(__file__)
    if _git(here.parent, "ls-files", here.name):  # otherwise the repository is a user's, or none
        describe = ("describe", "--always", "--dirty=+", "--exclude=*", "--abbrev=12")
        return _git(here.parent, *describe) or "unknown"
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
    if Path(str(installed.locate_file("groundwork/runs"))).resolve() != here.resolve().parent:
        return "unknown"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    revision = origin.get("vcs_info", {}).get("commit_id", "")
    return revision[:12] or f"version {installed.version}"


def _git(folder: Path, *arguments: str) -> str:
    """Returns what git prints, or nothing if it fails."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
