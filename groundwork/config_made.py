"""What a config's file makes: the user's program runs, and what it returns is looked at."""

import contextlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import ml_collections
from ml_collections import config_dict

from groundwork import config_files
from groundwork.errors import UserError, reason, short


def load(path: str) -> ml_collections.ConfigDict:
    """Returns what `get_config()` returns in the file at `path` (`FILE.py` or `FILE.py:variant`).

    The file is the one at that path, or a shipped one of that name (see `config_files.find`).

    Raises:
      UserError: the file does not exist, fails to run, or has no `get_config`.
    """
    name, _, variant = path.partition(":")
    file = config_files.find(name)
    about = f"config file {short(name)}"
    try:
        with config_files.importing(file):
            make = getattr(config_files.run(file), "get_config", lambda *_: None)
            _check_variant(about, make, variant)
            config = make(variant) if variant else make()
        if isinstance(config, ml_collections.FrozenConfigDict):
            config = ml_collections.ConfigDict(config)  # which keys can be set in
        if isinstance(config, ml_collections.ConfigDict):
            _check_sections(about, config)
    except UserError:
        raise
    except SystemExit as error:
        raise UserError(f"{about} ends the program{_line(error, file)}") from error
    except Exception as error:  # a config is the user's program and may raise anything
        why = error.msg if isinstance(error, SyntaxError) else reason(error)
        raise UserError(f"{about} fails: {short(why)}{_line(error, file)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"{about} must have get_config() that returns a ConfigDict")
    return config


@contextlib.contextmanager
def makers(file: Path) -> Iterator[list[Path]]:
    """Notes which files a config is made of: `file`, and those whose functions are called.

    A file counts if it has `get_config`; the order is that of the calls.
    """
    found = {str(file): None}

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "get_config" in frame.f_globals:
            found.setdefault(frame.f_code.co_filename)

    files: list[Path] = []
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(before)
        files += [path for path in map(Path, found) if path.is_file()]


def value_of(value: Any) -> Any:
    """Returns what a field holds, which may be a reference."""
    return value.get() if isinstance(value, config_dict.FieldReference) else value


def check_given(config: ml_collections.ConfigDict, prefix: str = "") -> None:
    """Checks that placeholders have a value, and that what is computed from others can be.

    Raises:
      UserError: a value is lacking, or fails to be computed.
    """
    for key, field in config.items(preserve_field_references=True):
        try:
            value = value_of(field)
        except config_dict.RequiredValueError as error:
            raise UserError(_open(f"{prefix}{key}", field.get_type())) from error
        except Exception as error:  # the user's functions compute it
            raise UserError(f"{prefix}{key} cannot be computed: {reason(error)}") from error
        kind = field.get_type() if isinstance(field, config_dict.FieldReference) else object
        if value is None and kind not in (object, type(None)):
            raise UserError(_open(f"{prefix}{key}", kind))
        if isinstance(value, ml_collections.ConfigDict):
            check_given(value, f"{prefix}{key}.")


def _check_variant(about: str, make: Any, variant: str) -> None:
    """Refuses a variant that `get_config` does not take, and the lack of one that it needs."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # it is no function, or tells nothing
        return
    try:
        signature.bind(*([variant] if variant else []))
    except TypeError as error:
        if variant:
            raise UserError(
                f"{about} has no variants: give it without :{short(variant)}"
            ) from error
        raise UserError(
            f"{about} needs a variant, as in FILE.py:VARIANT: its get_config takes "
            f"{short(signature)}"
        ) from error


def _check_sections(
    about: str, config: ml_collections.ConfigDict, prefix: str = "", above: tuple[Any, ...] = ()
) -> None:
    """Refuses keys that are no texts, values that cannot be set, and sections in themselves."""
    for key, field in config.items(preserve_field_references=True):
        name = short(f"{prefix}{key}")
        if not isinstance(key, str):
            raise UserError(f"{about} has the key {name}, which is no text")
        try:
            value = value_of(field)
        except config_dict.RequiredValueError:
            continue  # the command line may give it
        if isinstance(value, ml_collections.ConfigDict):
            if any(value is each for each in (*above, config)):
                raise UserError(f"{about}: the section {name} contains itself")
            _check_sections(about, value, f"{prefix}{key}.", (*above, config))


def _open(key: str, kind: type) -> str:
    return f"{key} has no value: give --config.{key}={kind.__name__}"


def _line(error: BaseException, file: Path) -> str:
    """Returns ` (line N)`, that of a file from which an error came, or nothing."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})" if error.lineno else ""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    lines = [each.lineno for each in frames if Path(each.filename) == file.absolute()]
    return f" (line {lines[0]})" if lines else ""
