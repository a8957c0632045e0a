"""Stricter than life and small: warnings are errors (pyproject), four CPU devices, fixed keys."""

import functools
import gc
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.core.scope
import jax
import pytest
import submitit  # noqa: F401 (its import ends logging's handlers, and absl's would close a stream)
from hypothesis import settings
from jax._src.interpreters import mlir

from compress import work as networks_lib
from groundwork import buckets
from groundwork.report import figures
from tests import compiled_once, s3
from tests.browser import chromium  # noqa: F401 a fixture

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".jax_cache"

# Tests compile far more than they compute: these halve the processor time of a small run.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"  # many parts cost a fifth more to compile
if jax.__version_info__ < (0, 11):
    QUICK += " --xla_cpu_use_fusion_emitters=false"  # later releases do not know it
os.environ["XLA_FLAGS"] = f"{QUICK} {os.environ.get('XLA_FLAGS', '')}".strip()
# Threads of XLA's pool beyond those that wait for each other in collectives: see launch/local.py.
os.environ.setdefault("NPROC", "32")
# A shell's background job is deaf to Ctrl-C, and so are its children, of which some are to hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)  # shorter ones are not kept
# Where each operation stands in the source is asked by profiles alone: a sixth of all the time.
jax.config.update("jax_traceback_in_locations_limit", 0)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # of children


@functools.lru_cache(maxsize=4096)
def shape_of(initialiser: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Of a parameter."""
    return jax.eval_shape(lambda: initialiser(jax.random.key(0), *given, **options))


def remembered(function: Callable[..., Any], *inputs: Any) -> Any:
    """As `jax.eval_shape`, which Flax asks for each parameter's shape at every trace anew."""
    names, cells = function.__code__.co_freevars, function.__closure__ or ()
    given = {name: cell.cell_contents for name, cell in zip(names, cells, strict=True)}
    if given.keys() == {"init_fn", "init_args", "init_kwargs"}:
        try:
            return shape_of(given["init_fn"], *given["init_args"], **given["init_kwargs"])
        except TypeError:  # arguments that are lists
            pass
    return jax.eval_shape(function, *inputs)


flax.core.scope.jax = types.SimpleNamespace(**{**vars(jax), "eval_shape": remembered})


class Contexts(threading.local):
    """MLIR's contexts, one for 100 programs that a thread lowers: each takes 5 ms to make."""

    made, context = 0, None

    def __call__(self) -> Any:
        if self.made % 100 == 0:
            self.context = make_ir_context()
        self.made += 1
        return self.context


make_ir_context = mlir.make_ir_context
mlir.make_ir_context = Contexts()
figures.STYLE["savefig.dpi"] = 110  # pictures of half the pixels
networks_lib.LOADS = 1  # the time that a file takes to load is measured once
compiled_once.everywhere()
sys.dont_write_bytecode = True  # tests ask what commands leave; processes that they start may write
gc.freeze()  # JAX's and Flax's objects live as long as the process does
gc.set_threshold(20_000, 20, 50)
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ci")


def pytest_xdist_auto_num_workers() -> int:
    """One more worker than cores: tests wait for processes that they start."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end they would leave the other workers idle."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def one_device() -> list[jax.Device]:
    """The device of the 1×1 mesh."""
    return jax.devices()[:1]


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess]:
    """Run `python -m MODULE ARGS` from the repository's root, as a user does."""

    def run(module: str, *args: str, **options) -> subprocess.CompletedProcess:
        env = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(CACHE), **options.pop("env", {})}
        return subprocess.run(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    return run


@pytest.fixture(scope="session")
def s3_login() -> Iterator[Mapping[str, str]]:
    """A server that speaks S3 on this machine; the variables with which it is reached are set."""
    yield from s3.serve()


@pytest.fixture
def bucket(s3_login: Mapping[str, str], request: pytest.FixtureRequest) -> buckets.Bucket:
    """A folder of its own on that server."""
    return buckets.bucket(f"{s3.BUCKET}/{request.node.name}/run")
