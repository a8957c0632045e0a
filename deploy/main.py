"""python -m deploy.main --source=RUN_OR_FILE [--engines=A,B] [--config=configs/deploy/FILE.py …]"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy import report, spec, work
from deploy.sources import networks
from groundwork import config_made, named, study
from groundwork.entry import run_main, run_script
from groundwork.errors import UserError

DEFAULT = "configs/deploy/base.py"  # of a source without a config
SHORT = {"source": "config.source.path", "engines": "config.engines", "graph": "config.log.graph"}
STUDY = study.Study(
    command="deploy",
    about=(
        "From a network to the engines that run it: files, measured and judged there.\n\n"
        "  --source=PATH       short for --config.source.path: a run of any command, a\n"
        "                      .cna file, a file of weights, or PACKAGE:NETWORK;\n"
        "                      without --config, a run says which data it takes\n"
        "  --engines=A,B       short for --config.engines\n"
        "  --graph             short for --config.log.graph=true"
    ),
    example="configs/deploy/digits.py",
    extendable=(),
    check=spec.from_config,
    units=spec.unit_names,
    following=spec.following,
    steps=spec.steps,
    prepare=work.prepare,
    show=report.show,
    compare=report.compare,
    warn=spec.without_effect,
    lost=work.lost,
)


def main(argv: Sequence[str]) -> None:
    """Runs the command; see `groundwork.study.conduct`."""
    study.conduct(STUDY, arguments(argv))


def arguments(argv: Sequence[str]) -> list[str]:
    """Returns a command line in which only flags are left that every command has.

    Raises:
      UserError: it names neither a config nor a source, or a source without data.
    """
    given = _joined(argv)
    if not given or {"--help", "-h"} & set(given):
        return given
    flags = dict(map(_parted, given))
    long = [_long(name, text) for name, text in map(_parted, given)]
    path = flags.get("source") or flags.get("config.source.path") or ""
    if named.is_own(path) and not Path(path).exists():
        long = [a for a in long if not a.startswith(f"--{SHORT['source']}=")]
        long = [f"--config.model.name={path}", "--config.train.steps=0", *long]
    if "config" in flags:
        return long
    if not path:
        raise UserError("no network: give --source=RUN_OR_FILE or --config=FILE (see --help)")
    begin = [f"--config={DEFAULT}"]
    if "workdir" not in flags:
        begin.append(f"--workdir=runs/deploy_{Path(path.rstrip('/').replace(':', '.')).stem}")
    return [*begin, *_of_run(path, flags), *long]


run = functools.partial(run_script, main)  # the script of that name


def _of_run(path: str, flags: Mapping[str, str]) -> list[str]:
    """Returns the data, loss and model of the run that a source is, as flags."""
    own = named.is_own(path) and not Path(path).exists()
    if not own:
        networks.names(networks.Source(path))  # says what is wrong with the path
    theirs = None if own else networks.section(path)
    if theirs is None:
        if any(name.startswith("config.data.") for name in flags):
            return []
        raise UserError(
            f"--source={path} does not say which data it takes: give --config=FILE, or "
            "--config.data.KEY=VALUE"
        )
    usual, found = config_made.load(DEFAULT), []
    for section in ("data", "model"):
        for key, value in theirs.get(section, {}).items():
            if key in usual[section] and _plain(usual[section][key]) != _plain(value):
                found.append(f"--config.{section}.{key}={_text(value)}")
    for key in ("loss", "loss_kwargs"):
        if key in theirs and _plain(usual[key]) != _plain(theirs[key]):
            found.append(f"--config.{key}={_text(theirs[key])}")
    return found


def _joined(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--source PATH` and `--engines A,B` as one each."""
    found: list[str] = []
    for argument in argv:
        if found and found[-1] in ("--source", "--engines") and not argument.startswith("--"):
            found[-1] = f"{found[-1]}={argument}"
        else:
            found.append(argument)
    return found


def _parted(argument: str) -> tuple[str, str]:
    name, _, text = argument.partition("=")
    return name.removeprefix("--"), text


def _long(name: str, text: str) -> str:
    """Returns a flag of this command as the one that it is short for; others as they are."""
    if name == "engines":
        parts = tuple(part.strip() for part in text.split(",") if part.strip())
        return f"--{SHORT[name]}={parts!r}"
    if name == "graph":
        return f"--{SHORT[name]}={text or 'true'}"
    return f"--{SHORT.get(name, name)}" + (f"={text}" if text else "")


def _plain(value: Any) -> Any:
    """Returns a value as config.json has it."""
    if isinstance(value, tuple):
        return list(value)
    return value.to_dict() if hasattr(value, "to_dict") else value


def _text(value: Any) -> str:
    """Returns a value as it would be typed."""
    if isinstance(value, list):
        value = tuple(value)
    return value if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    run_main(main)
