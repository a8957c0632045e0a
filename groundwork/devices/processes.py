"""Several processes of one run: which one this is, which one writes, and how they agree.

Every process runs the same command. Process 0 alone writes metrics, figures and logs. It tells all
others what it finds in the run folder, since a shared file system may show them different things.
"""

import functools
import hashlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from groundwork.errors import UserError

HEARTBEAT_SECONDS = 30  # if a process is silent for so long, JAX ends the others
LEAVE_SECONDS = 5.0  # a process that fails waits so long for the others to fail too
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
LAUNCHER = "LOCAL_LAUNCHER_SECONDS"  # set by launch/local.py: it names the dead, then ends the rest
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # set by srun and mpirun
LOST = re.compile("gloo|nccl|closed by peer|unavailable", re.IGNORECASE)  # in JAX's errors
T = TypeVar("T")


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes of this run, if the environment describes any.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` describe them in full. JAX
    finds the tasks of a Slurm or MPI step itself, and those of other systems that it knows, such
    as a TPU pod, with `JAX_DISTRIBUTED=auto`. This must be called once, before JAX looks for
    devices. If the others do not come within five minutes, JAX ends the process.

    Raises:
      UserError: a variable is missing, not a number, or out of range; or JAX sees other processes
        that nothing describes.
    """
    given = _described(environment)
    if given is None:
        if jax.process_count() > 1:
            raise UserError(f"there are {jax.process_count()} processes: set JAX_DISTRIBUTED=auto")
        return
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot join the run's other processes: {error}") from error
    _silence_gloo()


def index() -> int:
    """Returns which of the run's processes this is."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def count() -> int:
    """Returns the number of processes."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Returns whether this is process 0, which writes."""
    return index() == 0


def on_first(function: Callable[..., T], *args: Any) -> T:
    """Calls the function in process 0; all processes return its result (JSON) or raise its error.

    All processes must call this, in the same order.

    Raises:
      UserError, OSError: in all processes, if the function raises it in process 0.
    """
    if count() == 1:
        return function(*args)
    told: dict[str, Any] = {}
    if first():
        try:
            told = {"value": function(*args)}
        except OSError as error:
            told = {"os": [error.errno, error.strerror, error.filename and str(error.filename)]}
            told = told if error.errno else {"os": [str(error)]}
        except UserError as error:
            told = {"error": str(error)}
    told = json.loads(_from_first(json.dumps(told).encode()))
    if "error" in told:
        raise UserError(told["error"])
    if "os" in told:
        raise OSError(*told["os"])
    return told["value"]


def same(name: str, value: str, remedy: str) -> None:
    """Checks that the value called `name` is the same in all processes.

    Raises:
      UserError: in all processes; names one that differs from process 0, and the remedy.
    """
    if count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    different = np.flatnonzero((digests != digests[0]).any(1))
    if len(different):
        raise UserError(f"process {different[0]} has another {name} than process 0: {remedy}")


def broadcast(value: float) -> jax.Array | np.ndarray:
    """Returns process 0's value in all processes. It does not wait; `float(result)` does."""
    if count() == 1:
        return np.asarray(value, np.float32)
    mesh, take = _one_device_each()
    split = NamedSharding(mesh, PartitionSpec("process"))
    local = np.full(count(), value, np.float32)
    return take(jax.make_array_from_callback(local.shape, split, lambda at: local[at]))


def send(name: str, text: str) -> None:
    """Sends a text to process 0, which finds it by `received`. It waits for no other process.

    It goes past the devices: a collective of its own would meet those of the steps out of order.
    """
    _messages().key_value_set(f"{name}/{index()}/{time.time_ns()}", text)


def received(name: str) -> list[str]:
    """Returns the texts that were sent since the last call. Process 0 alone calls it."""
    if count() == 1:
        return []
    found = _messages().key_value_dir_get(f"{name}/")
    for key, _ in found:
        _messages().key_value_delete(key)
    return [text for _, text in found]


def wait_for_all(name: str) -> None:
    """Waits until every process has called this with the same name."""
    if count() > 1:
        multihost_utils.sync_global_devices(name)


def lost(error: Exception, environment: Mapping[str, str] = os.environ) -> str:
    """Returns the reason of a failure if it is that another process has ended, and else "".

    It waits for JAX, or for the launcher, which name the dead process and end this one meanwhile.
    The traceback of what failed here is shown only if neither does.
    """
    reason = str(error).strip().partition("\n")[0]
    if not LOST.search(reason):
        return ""
    seconds = float(environment.get(LAUNCHER, HEARTBEAT_SECONDS)) + LEAVE_SECONDS
    if LAUNCHER not in environment:
        print(
            f"error: another of the {count()} processes has ended ({reason}): JAX names it within "
            f"{seconds:g} s. The same command continues",
            file=sys.stderr,
            flush=True,
        )
    time.sleep(seconds)
    traceback.print_exception(error)
    return "error: could not find out which process has ended"


def leave(code: int) -> None:
    """Ends this process with an exit code, without waiting for the others to end.

    A plain exit would wait for them, and in the end be aborted.
    """
    if count() > 1:
        farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        farewell.start()
        farewell.join(LEAVE_SECONDS)
        os._exit(code)


def _described(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments of `jax.distributed.initialize`; None for a single process."""
    if ADDRESS in environment:
        try:
            processes, process = int(environment[COUNT]), int(environment[INDEX])
        except (KeyError, ValueError) as error:
            raise UserError(f"{ADDRESS} needs {COUNT} and {INDEX} beside it: {error}") from error
        if not 0 <= process < processes:
            raise UserError(
                f"{INDEX}={process} must be in 0 to {processes - 1}: {COUNT} is {processes}"
            )
        if processes == 1:
            return None
        return {
            "coordinator_address": environment[ADDRESS],
            "num_processes": processes,
            "process_id": process,
        }
    several = any(int(environment.get(name, 1)) > 1 for name in TASKS)
    return {} if several or environment.get("JAX_DISTRIBUTED") == "auto" else None


def _silence_gloo() -> None:
    """Keeps Gloo's lines, which it writes to file descriptor 1, out of standard output."""
    if sys.stdout is None:  # closed
        return
    sys.stdout.flush()
    descriptor = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout = os.fdopen(descriptor, "w", encoding=encoding, errors=errors)


def _from_first(message: bytes) -> bytes:
    """Returns process 0's message, in all processes."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    room = 1 << max(size - 1, 1).bit_length()  # few sizes, since each is compiled
    padded = np.zeros(room, np.uint8)
    if first():
        padded[:size] = np.frombuffer(message, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded)[:size].tobytes()


@functools.cache
def _one_device_each() -> tuple[Mesh, Callable[[jax.Array], jax.Array]]:
    """Returns a mesh of one device per process, and a function that sends entry 0 to all."""
    devices = [next(d for d in jax.devices() if d.process_index == i) for i in range(count())]
    mesh = Mesh(np.asarray(devices), ("process",))
    return mesh, jax.jit(lambda x: x[0], out_shardings=NamedSharding(mesh, PartitionSpec()))


def _messages() -> Any:
    """Returns the client of JAX's coordination service, which no public function gives."""
    return distributed.global_state.client
