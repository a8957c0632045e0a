import json
import re
import tracemalloc

import jax
import numpy as np
import pytest

from groundwork.errors import UserError
from groundwork.runs import trained
from groundwork.runs.run import Run

TREE = {"params": {"fc": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}}}
SHAPES = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, np.float32), TREE)


def test_a_file_gives_back_what_was_saved(tmp_path):
    trained.save(tmp_path / "network.npz", TREE)
    found = trained.load(tmp_path / "network.npz", "")
    jax.tree.map(np.testing.assert_array_equal, found, TREE)


def test_a_file_executes_nothing(tmp_path):
    np.savez(tmp_path / "evil.npz", **{"params/fc": np.array([print], dtype=object)})
    with pytest.raises(UserError, match="is no readable file of arrays"):
        trained.load(tmp_path / "evil.npz", "")


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"weights": np.ones(2)}, "no arrays named params/"),
        ({"params/a": np.ones(2), "params/a/b": np.ones(2)}, "params/a/b lies inside an array"),
        (
            {"params/a/b": np.ones(2), "params/a": np.ones(2)},
            "params/a is an array, and has others",
        ),
    ],
)
def test_other_files_are_refused(arrays, said, tmp_path):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(UserError, match=said):
        trained.load(tmp_path / "other.npz", "")


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut off", b"", b"text"])
def test_no_archive_is_refused(content, tmp_path):
    (tmp_path / "cut.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"cut\.npz is no readable file of arrays"):
        trained.load(tmp_path / "cut.npz", "")


def test_a_single_array_is_refused(tmp_path):
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, np.ones(3))
    with pytest.raises(UserError, match="is no readable file of arrays"):
        trained.load(tmp_path / "one.npz", "")


@pytest.mark.parametrize("path", ["~nobody-at-all/run", "~nobody-at-all/network.npz"])
def test_the_home_of_nobody_is_said(path):
    with pytest.raises(UserError, match=r"there is no user 'nobody-at-all'"):
        trained.load(path, "")


def test_floats_become_the_networks_and_others_are_refused():
    found = trained.replicated(TREE, SHAPES, 1, "here")  # of float64
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    counts = jax.tree.map(lambda leaf: leaf.astype(int), TREE)
    with pytest.raises(UserError, match="here: params/fc/bias is of int64, not of floats"):
        trained.replicated(counts, SHAPES, 1, "here")


def test_replicates_are_checked_and_one_network_serves_all():
    found = trained.replicated(TREE, SHAPES, 3, "here")
    assert found["params"]["fc"]["kernel"].shape == (3, 3, 2)
    stacked = jax.tree.map(lambda leaf: np.stack([leaf, 2 * leaf]), TREE)
    found = trained.replicated(stacked, SHAPES, 2, "here")
    jax.tree.map(np.testing.assert_array_equal, found, stacked)
    with pytest.raises(UserError, match=r"^here holds 2 replicates, not 3: set replicates=2$"):
        trained.replicated(stacked, SHAPES, 3, "here")
    wide = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((4, *leaf.shape[1:]), leaf.dtype), SHAPES)
    with pytest.raises(UserError, match=r"here: params/fc/bias has the shape \(2, 2\), not \(4,\)"):
        trained.replicated(stacked, wide, 2, "here")
    with pytest.raises(UserError, match="another network than the config's: params/fc/bias differ"):
        trained.replicated({"params": {"fc": {"kernel": np.ones((3, 2))}}}, SHAPES, 1, "here")
    bad = {"params": {"fc": {"kernel": np.full((3, 2), np.nan), "bias": np.zeros(2)}}}
    with pytest.raises(UserError, match="here: 6 entries of params/fc/kernel are not finite"):
        trained.replicated(bad, SHAPES, 1, "here")


DATA = {
    "name": "digits",
    "pad": 0,
    "standardize": True,
    "mean": (),
    "std": (),
    "image_size": 0,
    "validation_examples": 200,
    "split_seed": 3,
}


def _write_about(folder, data):
    """As a run has it that was trained on such data."""
    about = {"command": "lottery", "config": {"data": data}}
    (folder / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("there", "apart", "said"),
    [
        ({}, True, ""),
        ({"pad": 2}, False, "source.path: {} was trained with data.pad=2, not 0"),
        (
            {"classes": [1, 0]},
            False,
            "source.path: {} was trained with data.classes=[1, 0], not []",
        ),
        ({"std": [0.5]}, False, "source.path: {} was trained with data.std=[0.5], not []"),
        ({"pad": None, "mean": None}, True, ""),  # a run from before there were such keys
        ({"split_seed": 0}, False, ""),
        (
            {"source": "mine:load"},
            False,
            "source.path: {} was trained with data.source='mine:load', not None",
        ),
        ({"split_seed": 0}, True, "source.path: {} was trained with data.split_seed=0, not 3"),
        (
            {"validation_examples": 100},
            True,
            "source.path: {} was trained with data.validation_examples=100, not 200",
        ),
    ],
)
def test_a_run_of_other_data_is_refused(there, apart, said, tmp_path):
    config = {key: value for key, value in {**DATA, **there}.items() if value is not None}
    (tmp_path / "config.json").write_text(
        json.dumps({"command": "lottery", "config": {"data": config}})
    )
    if not said:
        trained.check_data(tmp_path, DATA, "source.path", apart)
        return
    with pytest.raises(
        UserError, match=f"^{re.escape(said.format(tmp_path))}: set it so, or name another run$"
    ):
        trained.check_data(tmp_path, DATA, "source.path", apart)
    trained.check_data("weights.npz", DATA, "source.path", apart)  # says nothing of its data


def test_without_validation_images_none_can_have_been_seen(tmp_path):
    _write_about(tmp_path, {**DATA, "validation_examples": 100})
    trained.check_data(tmp_path, {**DATA, "validation_examples": 0}, "source.path", apart=True)


def test_a_ticket_brings_its_mask_and_other_units_may(tmp_path):
    _write_about(tmp_path, DATA)
    params = {"fc": {"kernel": np.float32([[0, 0, 3]]), "bias": np.float32([[0]])}}
    mask = {"fc/kernel": np.array([[False, True, True]]), "fc/bias": np.array([[False]])}
    run = Run(tmp_path)
    run.unit("levels/01/ticket").finish((mask, {"params": {}}, {"params": params}), {})
    run.unit("networks/pruned").finish({"mask": mask, "variables": {"params": params}}, {})
    run.unit("networks/dense").finish({"variables": {"params": params}}, {})
    for unit in ("levels/01/ticket", "networks/pruned"):
        jax.tree.map(np.testing.assert_array_equal, trained.mask(tmp_path, unit, params), mask)
        jax.tree.map(np.testing.assert_array_equal, trained.load(tmp_path, unit)["params"], params)
    assert trained.mask(tmp_path, "networks/dense", params) is None
    assert trained.mask(tmp_path / "weights.npz", "", params) is None
    alive = {"fc": {**params["fc"], "bias": np.float32([[1]])}}
    for other in (alive, {"fc": {"kernel": params["fc"]["kernel"]}}):
        with pytest.raises(UserError, match="its mask of fc/bias does not fit its parameters"):
            trained.mask(tmp_path, "levels/01/ticket", other)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "0.cna").write_bytes(b"")
    with pytest.raises(UserError, match=r"neither the folder of a run nor a file of weights"):
        trained.load(tmp_path / "0.cna", "")


def test_a_file_of_other_shapes_is_refused_before_its_arrays_are_read(tmp_path):
    arrays = {"params/fc/kernel": np.ones((3, 2)), "params/fc/bias": np.zeros(2)}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    jax.tree.map(np.testing.assert_array_equal, trained.load(path, "", SHAPES), TREE)
    np.savez(path, **{name: array[None] for name, array in arrays.items()})
    assert trained.load(path, "", SHAPES)["params"]["fc"]["kernel"].shape == (1, 3, 2)
    np.savez(path, **{**arrays, "params/fc/bias": np.zeros(4_000_000)})
    tracemalloc.start()
    with pytest.raises(UserError, match=r"params/fc/bias has the shape \(4000000,\), not \(2,\)"):
        trained.load(path, "", SHAPES)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    np.savez(path, **{f"params/{number}": np.zeros(1) for number in range(30)})
    with pytest.raises(UserError, match=r"params/0, .*, params/17 and 22 more differ$"):
        trained.load(path, "", SHAPES)
