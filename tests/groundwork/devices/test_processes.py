"""Who is in a run, told by the environment; requests to stop; meshes over processes."""

import hashlib
import os
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from groundwork.devices import interruption, mesh, processes
from groundwork.devices.interruption import BY_HAND, PREEMPTED
from groundwork.errors import UserError

FULL = {
    "JAX_COORDINATOR_ADDRESS": "host:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}


@pytest.fixture
def joined(monkeypatch):
    """What `jax.distributed.initialize` was called with."""
    calls = []
    monkeypatch.setattr(processes, "_silence_gloo", lambda: None)
    monkeypatch.setattr("jax.distributed.initialize", lambda **given: calls.append(given))
    return calls


def test_a_process_by_itself_joins_nothing(joined):
    for environment in (
        {},
        {"SLURM_STEP_NUM_TASKS": "1"},
        {**FULL, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"},
    ):
        processes.start(environment)
    assert joined == []


def test_the_variables_of_the_launcher_say_everything(joined):
    processes.start(FULL)
    assert joined == [
        {
            "coordinator_address": "host:1234",
            "num_processes": 4,
            "process_id": 3,
            "heartbeat_timeout_seconds": 30,
        }
    ]


@pytest.mark.parametrize(
    "environment",
    [{"SLURM_STEP_NUM_TASKS": "2"}, {"OMPI_COMM_WORLD_SIZE": "8"}, {"JAX_DISTRIBUTED": "auto"}],
)
def test_jax_finds_the_others_of_a_scheduler(joined, environment):
    processes.start(environment)
    assert joined == [{"heartbeat_timeout_seconds": 30}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"JAX_NUM_PROCESSES": None}, "JAX_NUM_PROCESSES"),
        ({"JAX_PROCESS_ID": "first"}, "'first'"),
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID=4 must be in 0 to 3"),
    ],
)
def test_incomplete_variables_are_refused(joined, change, said):
    environment = {k: v for k, v in {**FULL, **change}.items() if v is not None}
    with pytest.raises(UserError, match=said):
        processes.start(environment)


def test_alone_the_first_process_is_asked_directly():
    assert (processes.index(), processes.count(), processes.first()) == (0, 1, True)
    assert processes.on_first(lambda a: (a, 1), 2) == (2, 1)
    with pytest.raises(FileNotFoundError):
        processes.on_first(open, "/nowhere")
    assert float(processes.broadcast(2.5)) == 2.5


@pytest.fixture
def told(monkeypatch):
    """Be one of three processes; what the others have is told by calling this."""
    others = []

    def tell(*values):
        digests = [hashlib.sha256(value.encode()).digest() for value in values]
        others.extend(np.frombuffer(digest, np.uint8) for digest in digests)

    gather = "jax.experimental.multihost_utils.process_allgather"
    monkeypatch.setattr(gather, lambda own: np.stack([own, *others]))
    monkeypatch.setattr(processes, "count", lambda: 3)
    return tell


def test_what_all_processes_have_in_common_is_accepted(told):
    told("mine", "mine")
    processes.same("run folder", "mine", "share a disk")


def test_one_that_has_something_else_is_named_with_what_to_do(told):
    told("mine", "another")
    with pytest.raises(UserError) as caught:
        processes.same("run folder", "mine", "share a disk")
    assert str(caught.value) == "process 2 has another run folder than process 0: share a disk"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, PREEMPTED), (signal.SIGINT, BY_HAND)]
)
def test_a_signal_asks_to_stop_and_its_code_says_so(number, code, capsys):
    before = signal.getsignal(number)
    with interruption.watched() as asked:
        assert not asked.reached()
        os.kill(os.getpid(), number)
        assert asked.reached()
        assert asked.stop("levels/00/ticket, step 3").code == code
        assert "levels/00/ticket, step 3" in str(asked.stop("levels/00/ticket, step 3"))
    assert signal.getsignal(number) == before


def test_the_second_ctrl_c_stops_at_once():
    with interruption.watched() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked.reached()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_thread_is_not_watched_but_works():
    reached = []

    def look():
        with interruption.watched() as asked:
            reached.append(asked.reached())

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert reached == [False]


def stand_ins(hosts, each):
    """Stand-ins: a mesh looks at a device's process alone, until it is used."""
    return [
        SimpleNamespace(process_index=h, id=h * each + i) for h in range(hosts) for i in range(each)
    ]


def test_every_process_gives_as_many_devices_side_by_side(monkeypatch):
    taken = []
    monkeypatch.setattr(mesh, "Mesh", lambda grid, names, axis_types: taken.append(grid))
    mesh.make(3, 60, devices=stand_ins(2, 4))
    mesh.make(4, 10, devices=stand_ins(2, 4))
    mesh.make(2, 7, devices=stand_ins(2, 4))
    assert [grid.shape for grid in taken] == [(3, 2), (4, 2), (2, 1)]
    chosen = [[device.id for device in grid.flat] for grid in taken]
    assert chosen == [[0, 1, 2, 4, 5, 6], list(range(8)), [0, 4]]


@pytest.mark.parametrize("sizes", [{}, {"data": 7}])
def test_processes_without_work_are_refused(sizes):
    with pytest.raises(UserError, match="2 processes cannot share a mesh"):
        mesh.make(1, 7, devices=stand_ins(2, 4), **sizes)


def test_what_one_process_has_is_gathered_as_it_is():
    tree = {"a": mesh.put(mesh.make(2, 4), np.arange(4.0).reshape(2, 2), mesh.BY_REPLICATE)}
    assert mesh.gather(tree) is tree
    np.testing.assert_array_equal(mesh.fetch(tree)["a"], [[0, 1], [2, 3]])


GLOO = "UNKNOWN: Gloo all-reduce failed: Connection reset by peer\nmore"


@pytest.mark.parametrize(
    ("environment", "seconds", "said"),
    [
        ({}, 35, "error: another of the 2 processes has ended (UNKNOWN: Gloo all-reduce failed: "),
        ({processes.LAUNCHER: "10"}, 15, ""),  # launch/local.py says it
    ],
)
def test_a_lost_process_is_one_line_until_nobody_has_named_it(
    environment, seconds, said, monkeypatch, capsys
):
    """The traceback comes after the waiting alone."""
    before = []
    waits = SimpleNamespace(sleep=lambda s: before.extend([s, capsys.readouterr().err]))
    monkeypatch.setattr(processes, "time", waits)
    monkeypatch.setattr(processes, "count", lambda: 2)
    ended = processes.lost(RuntimeError(GLOO), environment)
    assert ended == "error: could not find out which process has ended"
    assert before[0] == seconds
    assert before[1].startswith(said)
    assert before[1].count("\n") == bool(said)
    assert (f"within {seconds} s" in before[1]) == bool(said)
    assert "RuntimeError: UNKNOWN" in capsys.readouterr().err
    assert processes.lost(RuntimeError("a mistake of one's own"), environment) == ""
