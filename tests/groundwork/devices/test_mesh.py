"""What a process has of a mesh, and arrays of which every process has its share."""

import itertools
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


@pytest.fixture
def grids(monkeypatch):
    """Meshes as grids of devices, which may be stand-ins."""
    monkeypatch.setattr(mesh, "Mesh", lambda grid, names, axis_types: grid)


def stand_ins(count, slices=1):
    """Devices of one process a slice."""
    each = count // slices
    return [
        SimpleNamespace(id=place, process_index=place // each, slice_index=place // each)
        for place in range(count)
    ]


@pytest.mark.parametrize("batch", [1, 7, 12, 60, 100, 128])
def test_the_default_uses_most_devices_and_then_most_rows(grids, batch):
    for replicates, count in itertools.product(range(1, 11), (*range(1, 18), 24, 32)):
        every = [
            (rows * columns, rows)
            for rows in range(1, replicates + 1)
            for columns in range(1, batch + 1)
            if not replicates % rows and not batch % columns and rows * columns <= count
        ]
        found = mesh.make(replicates, batch, devices=stand_ins(count)).shape
        used, rows = max(every)
        assert found == (rows, used // rows), (replicates, batch, count)


@pytest.mark.parametrize(
    ("given", "shape"),
    [({"replicate": 1}, (1, 6)), ({"data": 1}, (3, 1)), ({"data": 4}, (1, 4)), ({}, (3, 2))],
)
def test_what_is_given_stays_and_the_rest_is_chosen(grids, given, shape):
    assert mesh.make(3, 12, **given, devices=stand_ins(8)).shape == shape


def test_a_stream_gets_whole_rows_or_equal_parts_by_default(grids):
    devices = [SimpleNamespace(id=place, process_index=place // 4) for place in range(8)]
    assert mesh.make(3, 12, devices=devices).shape == (3, 2)  # the second row lies in both
    assert mesh.make(3, 12, devices=devices, whole=True).shape == (1, 6)


def test_of_processes_with_unlike_numbers_of_devices_each_gives_the_same(grids):
    devices = [SimpleNamespace(id=place, process_index=int(place > 1)) for place in range(8)]
    grid = mesh.make(3, 64, devices=devices)
    assert [[device.id for device in row] for row in grid] == [[0, 1, 2, 3]]
    with pytest.raises(UserError, match="needs 8 devices, but there are 4"):
        mesh.make(1, 64, data=8, devices=devices)


@pytest.mark.parametrize(
    ("replicates", "rows"),
    [(1, [[0, 1, 2, 3, 4, 5, 6, 7]]), (2, [[0, 1, 2, 3], [4, 5, 6, 7]])],
)
def test_slices_lie_side_by_side_and_have_replicates_of_their_own_first(grids, replicates, rows):
    devices = stand_ins(8, slices=2)
    for place, device in enumerate(devices):
        device.process_index = 2 * (place % 4) + place // 4  # they take turns
    grid = mesh.make(replicates, 64, devices=devices)
    assert [[device.id for device in row] for row in grid] == rows
