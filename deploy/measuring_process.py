"""A process that runs one engine's file; `deploy.measure` asks it for one thing after the other.

Requests come as lines of JSON on the standard input, `{"do": NAME, …}`, and answers go as lines of
JSON to the standard output as it was at the beginning; what engines print there themselves goes to
the standard error. Nothing but numpy is imported before the engine.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 20_000  # calls of one block


class Process:
    """What the process holds between two requests."""

    def __init__(self) -> None:
        self.empty_bytes = peak_bytes()
        self.call: Any = None
        self.runtime: Any = None
        self.inputs: list[np.ndarray] = []

    def load(
        self,
        runtime: str,
        package: str,
        path: str,
        threads: int,
        processors: list[int],
        inputs: str,
    ) -> dict[str, Any]:
        """Pins the process, imports the engine, loads the file, and calls it once."""
        pinned = hasattr(os, "sched_setaffinity")
        if pinned:
            os.sched_setaffinity(0, processors)
        self.inputs = arrays(inputs)
        importlib.import_module(package)
        self.runtime = importlib.import_module(runtime)
        begun = time.perf_counter()
        self.call = self.runtime.load(Path(path), threads)
        loaded = time.perf_counter()
        self.call(*self.inputs)
        return {"load_seconds": loaded - begun, "pinned": pinned}

    def block(self, seconds: float, least: int) -> dict[str, Any]:
        """Calls the network until the time is over, but at least so often; returns all seconds."""
        found: list[float] = []
        end = time.perf_counter() + seconds
        while len(found) < least or (time.perf_counter() < end and len(found) < LONGEST):
            begun = time.perf_counter()
            self.call(*self.inputs)
            found.append(time.perf_counter() - begun)
        return {"seconds": found}

    def peak(self) -> dict[str, Any]:
        """Returns the memory that the process needed above what it had before the engine."""
        return {"peak_bytes": max(0, peak_bytes() - self.empty_bytes)}

    def outputs(self, inputs: str, outputs: str) -> dict[str, Any]:
        """Computes the outputs of all examples in a file, batch by batch, into another one."""
        examples, batch = arrays(inputs), len(self.inputs[0])
        parts = []
        for start in range(0, len(examples[0]), batch):
            found = self.call(*(array[start : start + batch] for array in examples))
            parts.append(found if isinstance(found, tuple) else (found,))
        joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
        np.savez(outputs, *joined)
        return {}

    def operations(self, path: str) -> dict[str, Any]:
        """Returns what the engine says of its operations; None if it does not tell."""
        tell = getattr(self.runtime, "operations", None)
        return {"operations": None if tell is None else [list(row) for row in tell(Path(path))]}


def arrays(path: str) -> list[np.ndarray]:
    """Returns the arrays of a file in the order in which `numpy.savez` was given them."""
    with np.load(path) as file:
        return [file[f"arr_{n}"] for n in range(len(file.files))]


def peak_bytes() -> int:
    """Returns the most memory that this process has had resident so far.

    `getrusage` would also count the process that started it, before Python ran here.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:  # no Linux
        pass
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Answers requests until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        process = Process()
        for line in sys.stdin:
            asked = json.loads(line)
            try:
                answer = getattr(process, asked.pop("do"))(**asked)
            except ValueError as error:  # a refusal, which says what is wrong
                answer = {"error": " ".join(str(error).split())}
            except Exception as error:
                answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
