"""How a command ends: with an exit code, and one line that says why."""

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from groundwork import copies, terminal
from groundwork.devices import processes
from groundwork.devices.interruption import BY_HAND, PREEMPTED, Interrupted
from groundwork.errors import UserError, missing, short


def run_main(entry: Callable[[Sequence[str]], None]) -> None:
    """Runs a command's `main`, then ends the process.

    Exit codes: 0, the work is done; 2, the user made a mistake; 75, the run was asked to stop
    (SIGTERM), or 130, by hand (Ctrl-C), and has saved, so that the same command continues it; 76,
    training did not move (`devices/watchdog.py`), and the same command continues it as well;
    141, nobody reads the output (a closed pipe).
    """
    terminal.prepare()
    gc.freeze()  # what was imported lives as long as the process: no collection looks at it
    gc.set_threshold(20_000, 20, 50)  # a traced program has many objects, and few of them die
    signal.signal(signal.SIGTERM, _nothing_to_save)  # until `interruption.watched` takes over
    try:
        entry(sys.argv[1:])
        print(end="", flush=True)  # if this failed later, at exit, Python would end with code 120
    except UserError as error:
        _leave(2, terminal.fitting(f"error: {copies.told(str(error))}", sys.stderr))
    except Interrupted as stop:
        _leave(stop.code, str(stop))
    except BrokenPipeError:  # the reader of the output, such as `head`, has seen enough
        _leave(128 + signal.SIGPIPE)
    except OSError as error:
        said = f"error: {_which(error)}. Earlier files are whole: fix this and start the run again"
        _leave(2, terminal.fitting(said, sys.stderr))
    except KeyboardInterrupt:
        _leave(BY_HAND, "\ninterrupted; the same command continues")
    except SystemExit as stop:  # from --help, or from rich when nobody reads the output
        broken = isinstance(stop.__context__, BrokenPipeError)
        _leave(128 + signal.SIGPIPE if broken else stop.code or 0)
    except Exception as error:
        if processes.count() > 1:  # the others may end this process before Python prints anything
            _leave(1, processes.lost(error) or traceback.format_exc())
        raise


def run_script(entry: Callable[[Sequence[str]], None]) -> None:
    """Runs a command's `main` as `python -m` would: modules of the current folder are found."""
    if not sys.flags.safe_path:
        sys.path.insert(0, "")
    run_main(entry)


def as_typed(command: str) -> str:
    """Returns how a command was started: as the script `lottery`, or `python -m lottery.main`."""
    return command if Path(sys.argv[0]).stem == command else f"python -m {command}.main"


def _which(error: OSError) -> str:
    """Returns the file and what is wrong with it, as one line."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
    if path is None:
        return str(UserError(error))
    if isinstance(error, FileNotFoundError):
        return str(UserError(missing(path)))
    return str(UserError(f"{short(path)}: {error.strerror}"))


def _nothing_to_save(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted("asked to stop before training began; the same command starts it", PREEMPTED)


def _leave(code: int | str, message: str = "") -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be gone
        if message:
            print(message, file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # Python flushes again at exit; its failure must not change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    processes.leave(code if isinstance(code, int) else 1)
    sys.exit(code)
