"""python -m benchmarks.scaling: a step on more devices, measured, and on more chips, computed.

Measured, on CPU devices simulated in one process, or in two that speak by gloo: the time of a step,
the time to compile it, and the bytes that its compiled form moves over the mesh's data axis.
Simulated devices share this machine's cores, so their step time is no measure of scaling; if it
falls, one device may have left a core idle. The bytes are those that the program asks of any
devices; another backend's compiler may group them into other all-reduces.

Computed, for chips: how long those bytes are under way, by `projection`'s formula and sources.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/scaling.py`

from benchmarks import communication, projection, setting
from groundwork import terminal
from groundwork.report import tables

ROOT = Path(__file__).resolve().parents[1]
MODELS = ("lenet_300_100", "small_conv")
BATCHES = {1: 128, 3: 60}  # replicates → examples of a batch
EXAMPLES, IMAGE, CLASSES = 1024, (28, 28, 1), 10
NOTES = (
    "measured: simulated devices share the cores of this machine, so times say what spreading "
    "costs here and nothing of scaling: more devices may be faster where one left a core idle",
    "one replicate with batches of 128, or three with batches of 60 each, on the default mesh; "
    "float32, SGD, random images 28×28×1",
    "bytes: of the arrays that a device's all-reduces add up in one step, by compiled HLO",
    f"computed: {projection.FORMULA}",
    "computed for the mesh 1×D: a batch of at least D examples (the bytes depend on neither), "
    "all-reduces one after the other, as many as the CPU's compiler left; chips of a replicate "
    "axis add nothing. Only the time under way is counted, and nothing was run on chips",
)


class Case(NamedTuple):
    """What one row measures."""

    model: str
    replicates: int
    devices: int
    processes: int
    steps: int  # in each repeat
    repeats: int


def small_conv() -> Any:
    """Returns three convolutions with BatchNorm: 16, 32, 64 channels, 24 thousand parameters."""
    import flax.linen as nn

    class SmallConv(nn.Module):
        @nn.compact
        def __call__(self, inputs: Any, train: bool = False) -> Any:
            x = inputs
            for channels, stride in ((16, 1), (32, 2), (64, 2)):
                x = nn.Conv(channels, (3, 3), stride, use_bias=False)(x)
                x = nn.BatchNorm(
                    use_running_average=not train, axis_name="data" if train else None
                )(x)
                x = nn.relu(x)
            return nn.Dense(CLASSES)(x.mean((1, 2)))

    return SmallConv()


def random_data() -> Any:
    """Returns random images and labels as a `Dataset`."""
    import numpy as np

    from groundwork.data.dataset import Dataset, Split

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (EXAMPLES, *IMAGE)).astype(np.uint8)
    split = Split(images, rng.integers(0, CLASSES, EXAMPLES).astype(np.int32))
    empty = Split(images[:0], split.labels[:0])
    half = np.full((1, 1, 1, 1), 0.5, np.float32)
    return Dataset("random", split, empty, empty, CLASSES, half, half)


def work(case: Case, process: int, address: str) -> dict[str, Any]:
    """Compiles the step of `programs.make`, reads and times it; in a process of its own."""
    import jax

    if case.processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator_address=address, num_processes=case.processes, process_id=process
        )
    import numpy as np
    import optax

    from groundwork import architectures, keys
    from groundwork.devices import mesh
    from groundwork.train import programs
    from groundwork.train.step import TrainState

    dataset, network = random_data(), {"name": case.model, "width": 1.0}
    model = small_conv() if case.model == "small_conv" else architectures.build(network, CLASSES)
    replicates, batch = case.replicates, BATCHES[case.replicates]
    devices = mesh.make(replicates, batch)
    optimizer = optax.sgd(0.1)
    made = programs.make(model, optimizer, dataset, devices, batch_size=batch)
    first = keys.roots(0, replicates), np.zeros(replicates, np.int32)
    roots, step = mesh.put(devices, first, mesh.BY_REPLICATE)
    variables = made.init(roots)
    opt_state = jax.jit(jax.vmap(optimizer.init))(variables["params"])
    state = TrainState(step, roots, variables, opt_state)
    tally, feed = made.no_tally(replicates), made.feed(roots, 0).__enter__()
    begun = time.perf_counter()
    lowered = made.jitted["steps"].lower(
        state, feed.places, tally, mesh.put(devices, dataset.train), np.int32(0), np.int32(1)
    )
    text = lowered.compile().as_text()
    compile_seconds = time.perf_counter() - begun
    collectives = communication.compiled(text)
    seconds = time_steps(case, made, state, feed, tally)
    return {
        **case._asdict(),
        "mesh": list(devices.shape.values()),
        "step_seconds": statistics.median(seconds),
        "step_seconds_range": [min(seconds), max(seconds)],
        "compile_seconds": compile_seconds,
        "bytes_per_step": communication.by_kind(collectives),
        "collectives": len(collectives),
        "parameters": architectures.count(variables["params"]) // replicates,
    }


def time_steps(case: Case, made: Any, state: Any, feed: Any, tally: Any) -> list[float]:
    """Returns the seconds of a step in each repeat, of which one more warms up."""
    import jax

    seconds, first = [], 0
    for _ in range(case.repeats + 1):
        begun = time.perf_counter()
        state, tally = made.run_steps(state, feed, tally, first, first + case.steps)
        jax.block_until_ready(state)
        seconds.append((time.perf_counter() - begun) / case.steps)
        first += case.steps
    return seconds[1:]


def run(case: Case) -> dict[str, Any]:
    """Runs a case in fresh processes, each with its share of the simulated devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flag = f"--xla_force_host_platform_device_count={case.devices // case.processes}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}
    env["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps([list(case), process, address])],
            cwd=ROOT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(case.processes)
    ]
    printed = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        errors = next(error for (_, error), p in zip(printed, started, strict=True) if p.returncode)
        return {**case._asdict(), "error": errors.strip().splitlines()[-1]}
    return json.loads(printed[0][0].splitlines()[-1])


def cases(quick: bool, repeats: int) -> list[Case]:
    """Returns all rows: on 1 to 8 devices in one process, and on 2 and 8 in two processes."""
    shapes = [(3, 1, 1), (3, 2, 1), (1, 1, 1), (1, 2, 1), (1, 2, 2)]
    shapes += [] if quick else [(1, 4, 1), (1, 8, 1), (1, 8, 2)]
    shapes[2:2] = [] if quick else [(3, 4, 1), (3, 8, 1)]
    steps = {"lenet_300_100": 5 if quick else 100, "small_conv": 2 if quick else 10}
    return [Case(model, *shape, steps[model], repeats) for model in MODELS for shape in shapes]


def show(measured: list[dict[str, Any]], computed: list[dict[str, Any]]) -> None:
    """Shows the table of what was measured, and that of what was computed."""
    header = ["model", "replicates", "devices", "processes", "mesh", "ms/step", "from to"]
    header += ["compile s", "bytes/step", "all-reduces"]
    rows = []
    for row in measured:
        start = (row["model"], *(str(row[name]) for name in ("replicates", "devices", "processes")))
        if "error" in row:
            rows.append([*start, "failed", "", "", "", "", ""])
            continue
        low, high = (f"{1e3 * seconds:.2f}" for seconds in row["step_seconds_range"])
        size = sum(row["bytes_per_step"].values())
        times = f"{1e3 * row['step_seconds']:.2f}", f"{low} {high}", f"{row['compile_seconds']:.1f}"
        shape = "×".join(map(str, row["mesh"]))
        rows.append([*start, shape, *times, f"{size:,}", str(row["collectives"])])
    tables.show("Measured on simulated CPU devices", (header, rows), keys=4)
    header = ["model", "network", "chips", "bytes", "all-reduces", "µs sent", "µs of hops"]
    rows = []
    for row in computed:
        names = row["model"], row["network"], str(row["chips"])
        under_way = (f"{1e6 * row[name]:.1f}" for name in ("sent_seconds", "hop_seconds"))
        rows.append([*names, f"{row['bytes']:,}", str(row["all_reduces"]), *under_way])
    tables.show("Computed for chips: bytes under way in a step", (header, rows), keys=3)


def main() -> None:
    """Measure, compute and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a toy run: two devices, few steps")
    parser.add_argument("--repeats", type=int, default=5, help="of each case; the median counts")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.worker:
        case, process, address = json.loads(flags.worker)
        print(json.dumps(work(Case(*case), process, address)))
        return
    load = setting.load()
    print(load, file=sys.stderr)
    measured = [run(case) for case in cases(flags.quick, 2 if flags.quick else flags.repeats)]
    computed = projection.project(MODELS, measured)
    if flags.json:
        about = {"machine": setting.machine(), "load": load, "notes": NOTES}
        print(json.dumps({**about, "measured": measured, "computed": computed}, indent=1))
        return
    show(measured, computed)
    errors = {f"failed: {row['error']}" for row in measured if "error" in row}
    for line in (*sorted(errors), f"machine: {setting.machine()}; {load}", *NOTES):
        terminal.say(line)


if __name__ == "__main__":
    main()
