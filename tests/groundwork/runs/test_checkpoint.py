"""Checkpoints are whole or refused."""

import errno
import shutil
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundwork.runs import checkpoint
from groundwork.runs.checkpoint import DamagedError

TREE = {
    "params": {"fc1": {"kernel": np.arange(600, dtype=np.float32).reshape(20, 30)}},
    "mask": {"fc1/kernel": np.arange(600).reshape(20, 30) % 3 == 0},
    "step": np.int32([3, 3]),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "final"
    checkpoint.save(folder, jax.tree.map(jnp.asarray, TREE), {"rows": 7})
    return folder


def _files(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_what_was_saved_comes_back(written):
    tree, metadata = checkpoint.restore(written)
    jax.tree.map(np.testing.assert_array_equal, tree, TREE)
    assert jax.tree.map(lambda a: a.dtype, tree) == jax.tree.map(lambda a: a.dtype, TREE)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))
    assert metadata == {"rows": 7}


@pytest.mark.parametrize("save", [checkpoint.save, checkpoint.save_alone])
def test_keys_and_structure_come_back_like_a_template(tmp_path, save):
    tree = {"key": jax.random.split(jax.random.key(3), 2), "pair": (jnp.ones(2), {})}
    save(tmp_path / "a", tree, {})
    again, _ = checkpoint.restore(tmp_path / "a", tree)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert jnp.array_equal(*(jax.random.key_data(t["key"]) for t in (again, tree)))


@given(data=st.data())
def test_one_flipped_bit_anywhere_is_refused(written, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped") / "final"
    shutil.copytree(written, folder)
    victim = data.draw(st.sampled_from([p for p in _files(folder) if p.stat().st_size]))
    content = bytearray(victim.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    victim.write_bytes(content)
    with pytest.raises(DamagedError, match=victim.name.split(".")[0]):
        checkpoint.restore(folder)


@pytest.mark.parametrize("damage", ["removed", "truncated", "added"])
def test_a_missing_shorter_or_foreign_file_is_refused(written, tmp_path, damage):
    folder = tmp_path / "final"
    shutil.copytree(written, folder)
    victim = max(_files(folder), key=lambda p: p.stat().st_size)
    if damage == "removed":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-1])
    else:
        victim.with_name("foreign").write_bytes(b"1")
    with pytest.raises(DamagedError, match="not as it was written"):
        checkpoint.restore(folder)


def test_orbax_alone_would_not_have_noticed(written, tmp_path):
    """Why the manifest is there: if this fails, Orbax has learnt to check its own files."""
    import orbax.checkpoint as ocp

    silent = 0
    for seed in range(5):
        folder = tmp_path / f"{seed}"
        shutil.copytree(written, folder)
        files = [p for p in _files(folder) if p.parent.name == "d"]
        victim = max(files, key=lambda p: p.stat().st_size)
        content = bytearray(victim.read_bytes())
        content[np.random.default_rng(seed).integers(len(content) // 4, len(content) // 2)] ^= 1
        victim.write_bytes(content)
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.restore(folder, TREE)
            silent += 1
        except Exception:  # whatever it raises, it has noticed
            continue
    assert silent > 0


def test_nothing_is_overwritten(written):
    with pytest.raises(FileExistsError, match="nothing is ever overwritten"):
        checkpoint.save(written, TREE, {})


def test_a_save_that_was_cut_off_is_no_checkpoint_and_gives_way(tmp_path, monkeypatch):
    folder = tmp_path / "final"
    monkeypatch.setattr(checkpoint, "_digests", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoint.save(folder, TREE, {})
    assert folder.exists()
    assert not checkpoint.exists(folder)
    monkeypatch.undo()
    checkpoint.save(folder, TREE, {"second": True})
    assert checkpoint.restore(folder)[1] == {"second": True}


def test_a_full_disk_is_refused_before_anything_is_written(written, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000))
    with pytest.raises(OSError, match="No space left") as raised:
        checkpoint.save(tmp_path / "final", TREE, {})
    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
    assert checkpoint.verify(written)


@pytest.mark.parametrize("save", [checkpoint.save, checkpoint.save_alone])
def test_a_disk_that_fills_up_while_arrays_are_written_is_told_as_such(tmp_path, monkeypatch, save):
    def fails(*args, **kwargs):
        raise ValueError("RESOURCE_EXHAUSTED: writing d/0: No space left on device")

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "save", fails)
    monkeypatch.setattr(checkpoint.ocp.StandardCheckpointer, "save", fails)
    with pytest.raises(OSError, match="No space left") as raised:
        save(tmp_path / "final", TREE, {})
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "final"))


def test_a_damaged_checkpoint_is_set_aside_under_a_new_name(written, tmp_path):
    for number in (1, 2):
        folder = tmp_path / "final"
        shutil.copytree(written, folder)
        assert checkpoint.set_aside(folder).name == f"final.damaged-{number}"
        assert not folder.exists()
