"""The command line: a config file, overrides of single keys, and one-line errors about both."""

import ast
import dataclasses
import difflib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_collections
from ml_collections import config_dict

from groundwork import buckets, config_files, meanings, overrides, paths, typed
from groundwork.config_made import check_given, load, makers
from groundwork.errors import UserError, check_text, short, shown

USAGE = """usage: {program} --config=FILE [--workdir=DIR]
         [--config.KEY=VALUE ...]

{about}

  --config=FILE       a file with get_config(): your own, or a shipped one, such
                      as {example}
  --config.KEY=VALUE  override one key of it, such as --config.train.steps=100;
                      where one is given twice the last counts
  --workdir=DIR       the run's folder (default: runs/NAME-OF-THE-CONFIG), or
                      s3://BUCKET/DIR or gs://BUCKET/DIR; the same command
                      continues an unfinished run and shows a finished one
  --dry-run           say what there is to do, how many steps, how large, and
                      about how long, by steps that are timed and thrown away
  --profile=FIRST:STOP
                      trace the steps FIRST to STOP-1 of the first unit trained
                      now that computes them, into profile/ of the run's folder
  --help              this text and, after --config=FILE, that file's story and
                      keys
"""
FLAGS = ("config", "workdir", "dry-run", "profile")
WIDTH = 80  # columns of what --help prints
LAST = ("data", "mesh", "checkpoint", "log")  # sections that serve any run, whatever it studies
GROUPS = {  # section → what it is about; other sections have names of their commands' own
    "": "seeds, replicates, and what there is one of",
    "branches": "controls, and the levels at which they are trained",
    "budget": "what the chosen network may cost",
    "calibration": "examples from which ranges of numbers are taken",
    "checkpoint": "how often an unfinished unit is saved, and what counts as a hang",
    "data": "which examples there are, and how they are prepared",
    "decompose": "by which methods, and how far, layers are factorised",
    "fine_tune": "training after the network was changed",
    "fine_tune_optimizer": "how that changes weights",
    "log": "what is written besides rows and the last page",
    "mesh": "how replicates and batches are spread over devices",
    "model": "the network",
    "optimizer": "how training changes weights",
    "prune": "what is taken away, and how much",
    "quantize": "bits, and how values are chosen",
    "rewind": "from where tickets are trained",
    "search": "how candidates are proposed and trained",
    "source": "a network of an earlier run, or of a file",
    "space": "what a search may do to a layer",
    "train": "steps and batches",
}
T = TypeVar("T")


def parse(argv: Sequence[str], usage: str) -> tuple[ml_collections.ConfigDict, Path | str]:
    """Returns the config with its overrides applied, and the run's folder: a path, or an address.

    Args:
      argv: the command line without the program's name.
      usage: the text that `--help` prints.

    Raises:
      UserError: a config file is not given or does not exist, a key is unknown, or a value has
        the wrong type or is missing, the folder is no path, or the profile no steps.
    """
    check_text(argv)
    argv = _joined(argv)
    settings = dict(argument.lstrip("-").split("=", 1) for argument in argv if "=" in argument)
    path = settings.get("config")
    if not argv or "--help" in argv or "-h" in argv:
        print(usage)
        _describe(path)
        raise SystemExit(0)
    if path is None or "--config" in argv:
        raise UserError("no config: give --config=FILE, yours or a shipped one (see --help)")
    config = load(path)
    _check_keys(argv, config)
    given = _flags(argv)
    workdir = given.get("workdir", f"runs/{Path(path.partition(':')[0]).stem}")
    _span(given)
    if given.get("dry-run"):
        raise UserError(f"--dry-run takes no value, and was given {shown(given['dry-run'])}")
    if not workdir:
        raise UserError("--workdir is empty: give the run's folder, as --workdir=DIR")
    keys = {k.removeprefix("config."): v for k, v in given.items() if k.startswith("config.")}
    overrides.apply(config, keys)
    check_given(config)
    return config, workdir if buckets.is_url(workdir) else paths.given(workdir)


def typed_keys(argv: Sequence[str]) -> list[str]:
    """Returns the keys of a config that a command line sets, each once, such as `train.steps`."""
    names = [argument.partition("=")[0].lstrip("-") for argument in _joined(argv)]
    keys = [name.removeprefix("config.") for name in names if name.startswith("config.")]
    return list(dict.fromkeys(keys))


def profiled(argv: Sequence[str]) -> tuple[int, int] | None:
    """Returns first and stop of the steps that `--profile` names; None without it.

    Raises:
      UserError: it names no steps.
    """
    return _span(_flags(_joined(argv)))


def rehearses(argv: Sequence[str]) -> bool:
    """Returns whether `--dry-run` is given."""
    return "dry-run" in _flags(_joined(argv))


def _span(given: Mapping[str, str | None]) -> tuple[int, int] | None:
    if "profile" not in given:
        return None
    text = given["profile"] or ""
    found = re.fullmatch(r"([0-9]{1,15}):([0-9]{1,15})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UserError(
            f"--profile={short(text)} must be FIRST:STOP, the steps FIRST to STOP-1, such as "
            "--profile=100:110"
        )
    return int(found[1]), int(found[2])


def build(kind: Callable[..., T], section: Mapping[str, Any], name: str) -> T:
    """Returns the dataclass `kind` of a config's section; `name` is that section's.

    Raises:
      UserError: a key is unknown, one without a default is missing, or `kind` refuses a value,
        which may be another than its annotation asks for (see `typed.value`).
    """
    if not isinstance(section, Mapping):
        raise UserError(f"{name}={shown(section)} must be a section, with keys and values")
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    known = [field.name for field in fields]
    for key in section:
        if key not in known:
            raise UserError(_unknown_key(f"{name}.{key}", [f"{name}.{k}" for k in known]))
    needed = [
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in needed if key not in section]
    if missing:
        raise UserError(f"config lacks the key {name}.{missing[0]}")
    kinds = typed.fields(kind)
    return kind(**{k: typed.value(f"{name}.{k}", v, kinds[k]) for k, v in section.items()})


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested config as `{"prune.rate": 0.2, …}`, with lists for tuples, as in JSON."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def resolve(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the config as nested dicts for JSON, with its references resolved.

    Raises:
      UserError: a value is none that JSON can keep; see `typed.plain`.
    """
    try:
        resolved = config.copy_and_resolve_references().to_dict()
        return {key: typed.plain(key, value) for key, value in resolved.items()}
    except RecursionError as error:
        raise UserError("the config has a list or mapping that contains itself") from error
    except ValueError as error:  # it takes no dots in the keys of a mapping
        advice = "in a pattern ? is any character" if "dots" in str(error) else "mend it"
        raise UserError(f"the config cannot be resolved: {error} ({advice})") from error
    except config_dict.RequiredValueError as error:
        keys = overrides.keys(config).items()
        names = [name for name, place in keys if overrides.get(config, place) is None]
        raise UserError(f"the config leaves {', '.join(names)} open: give a value") from error


def _joined(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--key value` written as `--key=value`."""
    joined: list[str] = []
    for argument in argv:
        previous = joined[-1] if joined else ""
        if previous in ("--", "--help", "--dry-run"):  # which take no value
            joined.append(argument)
        elif previous.startswith("--") and "=" not in previous and not argument.startswith("--"):
            joined[-1] = f"{previous}={argument}"
        else:
            joined.append(argument)
    return joined


def _flags(argv: Sequence[str]) -> dict[str, str | None]:
    """Returns flag → text, or None without one; of a flag that is given twice the last counts."""
    given: dict[str, str | None] = {}
    for argument in argv:
        flag, equals, text = argument.partition("=")
        name = flag.lstrip("-")
        if not name or not flag.startswith("-"):
            raise UserError(
                f"unexpected argument {short(argument)!r}: keys are set as --config.KEY=VALUE"
            )
        given.pop(name, None)  # the order is that of the texts that count
        given[name] = text if equals else None
    return given


def _check_keys(argv: Sequence[str], config: ml_collections.ConfigDict) -> None:
    """Refuses a `--config.KEY` or `--FLAG` that does not exist, and suggests one that does."""
    sections = overrides.keys(config)
    for argument in argv:
        name = argument.lstrip("-").partition("=")[0]
        if not argument.startswith("-") or not name:
            continue
        if name.startswith("config."):
            if name.removeprefix("config.") not in sections:
                raise UserError(_unknown_key(name, [f"config.{key}" for key in sections]))
        elif name not in FLAGS:
            known = [*FLAGS, *(f"config.{key}" for key in sections)]
            raise UserError(_unknown_key(name, known, "flag"))


def _unknown_key(name: str, known: Sequence[str], kind: str = "config key") -> str:
    plain = {key.removeprefix("config."): key for key in known}
    near = difflib.get_close_matches(name.removeprefix("config.")[:99], plain, n=1, cutoff=0.5)
    near = [plain[key] for key in near]
    leaf = [key for key in known if key.rsplit(".")[-1] == name.rsplit(".")[-1]]
    section, _, own = name.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == section}
    close = difflib.get_close_matches(own[:99], siblings, n=1, cutoff=0.8)
    hint = ([siblings[key] for key in close] or leaf or near)[:1]
    return f"unknown {kind} {short(name)!r}" + (f"; did you mean {hint[0]!r}?" if hint else "")


def _describe(path: str | None) -> None:
    if path is None:
        return
    file = config_files.find(path.partition(":")[0])
    with makers(file) as files:
        config = load(path)
    story = ast.get_docstring(ast.parse(file.read_bytes()), clean=False)
    where = "" if file == Path(path.partition(":")[0]) else f" ({file})"
    print(f"{path}{where}\n\n{_filled(story or '')}\nkeys, their defaults and what they mean:")
    keys = overrides.keys(config)
    meant = meanings.of(files, keys)
    for section, inside in _grouped(list(keys), meanings.order(files)).items():
        shown = {key: overrides.get(config, keys[key]) for key in inside}
        shown = {key: value for key, value in shown.items() if not _has_keys(value)}
        if shown:
            about = GROUPS.get(section, "")
            print(f"\n{section or 'run'}" + (f": {about}" if about else ""))
        for key, value in shown.items():
            value = {} if isinstance(value, ml_collections.ConfigDict) else value
            print(f"  --config.{key}={'' if value is None else value}")
            for line in textwrap.wrap(meant.get(key, ""), WIDTH - 6):
                print(f"      {line}")


LISTED = re.compile(r"(?m)^(?:[-*] |[|]|\d+[.] )")  # lists and tables stay as they are


def _filled(story: str) -> str:
    """Returns a text whose paragraphs fit; what is indented, such as commands, stays as it is."""
    paragraphs = re.split(r"(\n\s*\n|\n(?= ))", story)
    return "".join(
        part
        if part[:1] in (" ", "\n", "") or LISTED.search(part)
        else textwrap.fill(" ".join(part.split()), WIDTH, break_on_hyphens=False)
        for part in paragraphs
    ) + ("\n" if story.endswith("\n") else "")


def _has_keys(value: Any) -> bool:
    """Is it a section whose keys are shown in its place?"""
    return isinstance(value, ml_collections.ConfigDict) and len(value) > 0


def _grouped(keys: Sequence[str], order: Sequence[str]) -> dict[str, list[str]]:
    """Returns section → its keys, as the files of the config have them; "" has those in none.

    What serves any run, whatever it studies, comes last.
    """
    place = {key: number for number, key in enumerate(order)}
    found: dict[str, list[str]] = {"": []}
    for key in sorted(keys, key=lambda key: place.get(key, len(place))):
        found.setdefault(key.partition(".")[0] if "." in key else "", []).append(key)
    return {s: found[s] for s in sorted(found, key=lambda s: LAST.index(s) if s in LAST else -1)}
