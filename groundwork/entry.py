"""How a command ends: its exit code, and one line that says why."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from groundwork.devices import processes
from groundwork.devices.interruption import BY_HAND, PREEMPTED, Interrupted
from groundwork.errors import UserError


def run_main(entry: Callable[[Sequence[str]], None]) -> None:
    """Run a `main` to its end, and the process with it.

    Exit codes: 0 done; 2 a user's mistake; 75 asked to stop (SIGTERM), and 130 by hand (Ctrl-C):
    both have saved, and the same command continues; 141 nobody reads the output (a closed pipe).
    """
    signal.signal(signal.SIGTERM, _nothing_to_save)  # until `interruption.watched` takes over
    try:
        entry(sys.argv[1:])
        print(end="", flush=True)  # now: at its own end Python would answer a failure with 120
    except UserError as error:
        _leave(2, f"error: {error}")
    except Interrupted as stop:
        _leave(stop.code, str(stop))
    except BrokenPipeError:  # whoever read the output, `head` say, has seen enough
        _leave(128 + signal.SIGPIPE)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        _leave(2, f"error: {what}. What was written before is whole: mend it, start again")
    except KeyboardInterrupt:
        _leave(BY_HAND, "\ninterrupted; the same command continues")
    except SystemExit as stop:  # rich's, where nobody reads any more; --help's
        broken = isinstance(stop.__context__, BrokenPipeError)
        _leave(128 + signal.SIGPIPE if broken else stop.code or 0)
    except Exception as error:
        if processes.count() > 1:  # said now: what Python says at the end would come too late
            _leave(1, processes.lost(error) or traceback.format_exc())
        raise


def _nothing_to_save(number: int, frame: FrameType | None) -> NoReturn:
    raise Interrupted("asked to stop before training began; the same command begins", PREEMPTED)


def _leave(code: int | str, message: str = "") -> NoReturn:
    with contextlib.suppress(OSError):  # the terminal may be gone; that must not keep us
        if message:
            print(message, file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:  # nor change the code, when Python tries again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    processes.leave(code if isinstance(code, int) else 1)
    sys.exit(code)
