"""Several processes, one run: who we are, who writes, and how all come to know the same.

Every process runs the same command. Process 0 alone writes metrics, figures and logs; what it
finds in the run folder is told to all, since a shared file system may show them different things.
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
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from groundwork.errors import UserError

HEARTBEAT_SECONDS = 30  # a process that is silent for so long is dead, and JAX ends the others
LEAVE_SECONDS = 5.0  # that a process which fails waits for the others to fail alike
ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # set by srun and mpirun
LOST = re.compile("gloo|nccl|closed by peer|unavailable", re.IGNORECASE)  # in JAX's words
T = TypeVar("T")


def start(environment: Mapping[str, str] = os.environ) -> None:
    """Join the other processes of this run, where the environment says that there are any.

    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID` say it in full; a Slurm or
    MPI step of several tasks is found by JAX itself, and so is whatever else it knows (a TPU pod)
    with `JAX_DISTRIBUTED=auto`. To be called once, before JAX looks for devices.

    Raises:
      UserError: the variables are incomplete or no numbers, or do not name a process that there
        is; JAX sees other processes, and nothing was said of them. (If the others do not come
        within five minutes, JAX ends the process itself.)
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
    """Which of the run's processes this is."""
    return jax.process_index() if jax.distributed.is_initialized() else 0


def count() -> int:
    """How many there are."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def first() -> bool:
    """Is this the process that writes?"""
    return index() == 0


def on_first(function: Callable[..., T], *args: Any) -> T:
    """Process 0 calls the function; all get what it returned (JSON), or raise what it raised.

    All processes must come here, in the same order.

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


def same(what: str, value: str, remedy: str) -> None:
    """Check that all processes have the same.

    Raises:
      UserError: in all processes; names one that differs from process 0, and says the remedy.
    """
    if count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    different = np.flatnonzero((digests != digests[0]).any(1))
    if len(different):
        raise UserError(f"process {different[0]} has another {what} than process 0: {remedy}")


def broadcast(value: float) -> jax.Array | np.ndarray:
    """Process 0's number, on its way to all: does not wait, `float` of it does."""
    if count() == 1:
        return np.asarray(value, np.float32)
    mesh, take = _one_device_each()
    split = NamedSharding(mesh, PartitionSpec("process"))
    own = np.full(count(), value, np.float32)
    return take(jax.make_array_from_callback(own.shape, split, lambda at: own[at]))


def wait_for_all(what: str) -> None:
    """Return once every process has come here."""
    if count() > 1:
        multihost_utils.sync_global_devices(what)


def lost(error: Exception) -> str:
    """Why a collective failed, if it did so because another process has ended; else "".

    Waits for JAX, which in general ends this process meanwhile, naming the one that is dead.
    """
    reason = str(error).strip().partition("\n")[0]
    if not LOST.search(reason):
        return ""
    traceback.print_exc()
    print(
        f"error: another of the {count()} processes has ended ({reason}): JAX names it within "
        f"{HEARTBEAT_SECONDS} s. The same command continues",
        file=sys.stderr,
        flush=True,
    )
    time.sleep(HEARTBEAT_SECONDS + LEAVE_SECONDS)
    return "error: which process has ended could not be found out"


def leave(code: int) -> None:
    """End this process with an exit code, though the others may never come to their end.

    A process that ends by itself waits at its exit for the others, and is aborted in the end.
    """
    if count() > 1:
        farewell = threading.Thread(target=jax.distributed.shutdown, daemon=True)
        farewell.start()
        farewell.join(LEAVE_SECONDS)
        os._exit(code)


def _described(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; none if this is the only process."""
    if ADDRESS in environment:
        try:
            number, own = int(environment[COUNT]), int(environment[INDEX])
        except (KeyError, ValueError) as error:
            raise UserError(f"{ADDRESS} needs {COUNT} and {INDEX} beside it: {error}") from error
        if not 0 <= own < number:
            raise UserError(f"{INDEX}={own} must be in 0 to {number - 1}: {COUNT} is {number}")
        if number == 1:
            return None
        address = environment[ADDRESS]
        return {"coordinator_address": address, "num_processes": number, "process_id": own}
    several = any(int(environment.get(name, 1)) > 1 for name in TASKS)
    return {} if several or environment.get("JAX_DISTRIBUTED") == "auto" else None


def _silence_gloo() -> None:
    """Keep standard output for ours: Gloo tells the C library's whom it is connected to."""
    sys.stdout.flush()
    own = os.dup(1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    sys.stdout = os.fdopen(own, "w", encoding="utf-8")


def _from_first(message: bytes) -> bytes:
    """Process 0's message."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    room = 1 << max(size - 1, 1).bit_length()  # few sizes: each is compiled once
    padded = np.zeros(room, np.uint8)
    if first():
        padded[:size] = np.frombuffer(message, np.uint8)
    return multihost_utils.broadcast_one_to_all(padded)[:size].tobytes()


@functools.cache
def _one_device_each() -> tuple[Mesh, Callable[[jax.Array], jax.Array]]:
    """A mesh of one device a process, and the function that gives process 0's entry to all."""
    devices = [next(d for d in jax.devices() if d.process_index == i) for i in range(count())]
    mesh = Mesh(np.asarray(devices), ("process",))
    return mesh, jax.jit(lambda x: x[0], out_shardings=NamedSharding(mesh, PartitionSpec()))
