"""What a process has of a mesh, and arrays of which every process has its share."""

from types import SimpleNamespace

import numpy as np
import pytest
from jax.sharding import PartitionSpec

from groundwork.devices import mesh
from groundwork.errors import UserError


def _grid(rows, columns, hosts):
    """A mesh of stand-ins, whose devices lie in the order of their hosts."""
    devices = [
        SimpleNamespace(process_index=place * hosts // (rows * columns))
        for place in range(rows * columns)
    ]
    grid = np.asarray(devices).reshape(rows, columns)
    return SimpleNamespace(devices=grid, shape={"replicate": rows, "data": columns})


def _share(monkeypatch, grid, index):
    monkeypatch.setattr("groundwork.devices.processes.index", lambda: index)
    return mesh.share_of_process(grid)


@pytest.mark.parametrize(
    ("shape", "hosts", "index", "expected"),
    [
        ((1, 8), 2, 1, (range(1), 2, 1)),
        ((4, 2), 2, 1, (range(2, 4), 1, 0)),
        ((2, 4), 4, 3, (range(1, 2), 2, 1)),
        ((3, 2), 1, 0, (range(3), 1, 0)),
    ],
)
def test_a_process_reads_its_own_rows_and_part(monkeypatch, shape, hosts, index, expected):
    share = _share(monkeypatch, _grid(*shape, hosts), index)
    assert share == expected
    assert (share.rows, share.parts, share.part) == expected


@pytest.mark.parametrize(
    ("rows", "columns", "hosts"),
    [(1, 1, 1), (1, 8, 2), (1, 8, 8), (4, 2, 2), (4, 2, 4), (4, 2, 8), (2, 4, 4), (8, 1, 4)],
)
def test_the_processes_shares_together_are_the_mesh_once(monkeypatch, rows, columns, hosts):
    """Each device lies in the share of its own process, and in no other."""
    grid = _grid(rows, columns, hosts)
    owners = np.full((rows, columns), -1)
    for index in range(hosts):
        share = _share(monkeypatch, grid, index)
        width = columns // share.parts
        taken = owners[
            share.rows.start : share.rows.stop, share.part * width : (share.part + 1) * width
        ]
        assert (taken == -1).all()
        taken[:] = index
    expected = [[device.process_index for device in row] for row in grid.devices]
    np.testing.assert_array_equal(owners, expected)


@pytest.mark.parametrize(
    ("rows", "columns", "hosts"),
    [(4, 3, 6), (2, 6, 3)],  # a process with two of three columns; one with parts of two rows
)
def test_devices_that_are_no_rectangle_are_refused(monkeypatch, rows, columns, hosts):
    said = f"a stream needs whole rows, .*mesh.data={columns} and .* do not divide; set mesh.data"
    with pytest.raises(UserError, match=said):
        _share(monkeypatch, _grid(rows, columns, hosts), 0)


def test_devices_of_processes_that_take_turns_are_refused(monkeypatch):
    grid = _grid(2, 4, 2)
    grid.devices = grid.devices.reshape(4, 2).T  # as a TPU's torus might have them
    with pytest.raises(UserError, match="a stream needs whole rows"):
        _share(monkeypatch, grid, 0)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (1, 4)])
def test_alone_a_process_has_all_and_its_share_is_put_as_the_whole(rows, columns):
    devices = mesh.make(2, 4, replicate=rows, data=columns)
    assert mesh.share_of_process(devices) == (range(rows), 1, 0)
    tree = {"images": np.arange(24.0).reshape(2, 4, 3), "labels": np.arange(8).reshape(2, 4)}
    spec = PartitionSpec("replicate", "data")
    whole, share = mesh.put(devices, tree, spec), mesh.put_share(devices, tree, spec)
    for name, array in tree.items():
        np.testing.assert_array_equal(share[name], array)
        assert share[name].sharding == whole[name].sharding
