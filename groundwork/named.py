"""What a config names by `package.module:name`: a user's own network, data set or loss."""

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from groundwork.errors import UserError, reason

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def is_own(name: object) -> bool:
    """Returns whether a name of a config is a user's own: `package.module:name`."""
    return isinstance(name, str) and ":" in name


def load(key: str, name: str) -> Any:
    """Returns the object that a config names.

    Modules are looked for in the current folder first, as `python -m` does.

    Args:
      key: the config's key that has the name, such as `model.name`, for errors.
      name: `package.module:name`; the last part may have dots, such as `Nets.small`.

    Raises:
      UserError: there is no such module, it fails when it is imported, or it has no such name.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise UserError(f"{key}={name} must be PACKAGE.MODULE:NAME")
    found: Any = _module(f"{key}={name}", module_name)
    for part in path.split("."):
        try:
            there = hasattr(found, part)
        except Exception as error:  # an attribute of the user's may raise anything
            raise UserError(f"{key}={name}: {part!r} cannot be read: {reason(error)}") from error
        if not there:
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{key}={name}: {module_name} has no {part!r}{hint}")
        found = getattr(found, part)
    return found


def call(key: str, function: Callable[..., Any], kwargs: Mapping[str, Any], **more: Any) -> Any:
    """Returns what a user's function gives for the arguments of a config.

    Args:
      key: the config's key that has the arguments, such as `model.kwargs`, for errors; where there
        are none, what names the function.
      function: of the user.
      kwargs: the config's; lists become tuples, as they are before a config is saved as JSON.
      **more: arguments that the config does not have.

    Raises:
      UserError: the function does not take the arguments, or it fails.
    """
    try:
        return function(**{k: as_tuples(value) for k, value in kwargs.items()}, **more)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        given = "" if "=" in key else f"={dict(kwargs)}"
        raise UserError(f"{key}{given}: {reason(error)}") from error


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a function or class by name; none if it does not tell them."""
    made = inspect.isclass(function)  # of which NNX hides the signature
    try:
        found = inspect.signature(function.__init__ if made else function).parameters
    except (TypeError, ValueError):
        return {}
    return dict(list(found.items())[made:])


def required(function: Callable[..., Any]) -> list[str]:
    """Returns the parameters that can be given by position, and that have no default."""
    found = parameters(function).values()
    return [p.name for p in found if p.kind in POSITIONAL and p.default is p.empty]


def as_tuples(value: Any) -> Any:
    """Returns a value of a config with tuples for lists, and dictionaries for other mappings."""
    if isinstance(value, Mapping):
        return {key: as_tuples(inner) for key, inner in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


def place(error: BaseException) -> str:
    """Returns ` (FILE, line N)`: where in a user's own code an error came from, if in any."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not {"site-packages", "groundwork"} & set(Path(f.filename).parts)]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def _module(about: str, name: str) -> ModuleType:
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"{about}: there is no module {error.name!r} in {os.getcwd()}, nor is it installed"
            ) from error
        raise UserError(f"{about}: {name} needs {error.name!r}, which is not installed") from error
    except SystemExit as error:
        raise UserError(
            f"{about}: importing {name} ends the program: keep what it runs below "
            'if __name__ == "__main__"'
        ) from error
    except Exception as error:  # a user's module may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}, line {last.lineno}"
        if isinstance(error, SyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        raise UserError(f"{about}: importing it fails: {reason(error)} ({place})") from error
