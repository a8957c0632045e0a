"""Paths of leaves, replicates as a leading axis, and what stands for a value in a hash."""

import dataclasses
from collections import namedtuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork import trees

Pair = namedtuple("Pair", "left right")
TREE = {
    "layers": [{"kernel": np.ones((2, 3)), "bias": np.zeros(3)}, Pair(np.ones(4), np.float32(2))],
    "a": {"0/1": np.zeros(())},
}
PATHS = ["a/0/1", "layers/0/bias", "layers/0/kernel", "layers/1/left", "layers/1/right"]


# paths


def test_a_path_is_keys_places_and_names_joined_by_slashes():
    assert [trees.path(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(TREE)] == PATHS
    assert trees.path(()) == ""


def test_flatten_has_every_leaf_itself_in_the_trees_order():
    flat = trees.flatten(TREE)
    assert list(flat) == PATHS
    for leaf, expected in zip(flat.values(), jax.tree.leaves(TREE), strict=True):
        assert leaf is expected
    assert trees.flatten({}) == {}
    assert trees.flatten(3.0) == {"": 3.0}


def test_a_function_is_given_the_path_and_the_leaves_of_all_trees():
    doubled = jax.tree.map(lambda leaf: 2 * leaf, TREE)
    mapped = trees.map_with_path(lambda path, *leaves: (path, *leaves), TREE, doubled)
    assert jax.tree.structure(TREE) == jax.tree.structure(
        mapped, is_leaf=lambda node: isinstance(node, tuple) and isinstance(node[0], str)
    )
    path, leaf, other = mapped["layers"][0]["kernel"]
    assert path == "layers/0/kernel"
    assert leaf is TREE["layers"][0]["kernel"]
    np.testing.assert_array_equal(other, 2 * leaf)


def test_entries_are_counted_of_arrays_and_of_what_stands_for_them():
    assert trees.count(TREE) == 6 + 3 + 4 + 1 + 1
    assert trees.count(jax.eval_shape(lambda: {"w": jnp.zeros((5, 2)), "b": jnp.zeros(0)})) == 10
    assert trees.count({}) == 0


# replicates


@pytest.mark.parametrize("count", [1, 3])
def test_what_is_stacked_is_taken_apart_again_bit_for_bit(count):
    def scaled(by):
        return jax.tree.map(lambda leaf: np.asarray(by * leaf, np.float32), TREE)

    runs = [scaled(by + 1.5) for by in range(count)]
    stacked = trees.stack(runs)
    assert trees.replicates(stacked) == count
    assert jax.tree.structure(stacked) == jax.tree.structure(TREE)
    assert stacked["layers"][0]["kernel"].shape == (count, 2, 3)
    for index, run in enumerate(runs):
        one = trees.replicate(stacked, index)
        jax.tree.map(np.testing.assert_array_equal, one, run)
        assert {leaf.dtype for leaf in jax.tree.leaves(one)} == {np.dtype("float32")}


def test_replicates_are_stacked_on_the_host_wherever_they_were():
    stacked = trees.stack([{"w": jnp.arange(3)}, {"w": np.arange(3, 6)}])
    assert type(stacked["w"]) is np.ndarray
    np.testing.assert_array_equal(stacked["w"], [[0, 1, 2], [3, 4, 5]])


def test_a_replicate_of_arrays_on_a_device_stays_there_also_inside_jit():
    tree = {"w": jnp.arange(6).reshape(2, 3)}
    assert isinstance(trees.replicate(tree, 1)["w"], jax.Array)
    np.testing.assert_array_equal(
        jax.jit(lambda tree: trees.replicate(tree, 1))(tree)["w"], [3, 4, 5]
    )


def test_replicates_of_other_structure_are_refused():
    with pytest.raises(ValueError, match="bias"):
        trees.stack([{"kernel": np.ones(2)}, {"kernel": np.ones(2), "bias": np.ones(2)}])


# hashes


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    options: object


@dataclasses.dataclass
class Open:
    name: str
    options: object


@pytest.mark.parametrize("kind", [Frozen, Open])
def test_nested_values_are_hashed_by_what_they_hold(kind):
    def made(bits=(3, 4)):
        return {"rate": {"fc1": 0.5, "*": 0.2}, "kind": kind("a", {"bits": list(bits)}), "n": [[1]]}

    first, again, other = (trees.hashable(value) for value in (made(), made(), made((3, 5))))
    assert first == again
    assert hash(first) == hash(again)
    assert first != other
    assert {first: 1}[again] == 1


def test_the_order_of_keys_does_not_count():
    assert trees.hashable({"b": [1], "a": 2}) == trees.hashable({"a": 2, "b": [1]})


@pytest.mark.parametrize("value", [3, "text", None, (1, ("a", 2)), Frozen("a", (1, 2)), np.float32])
def test_what_can_be_hashed_stays_itself(value):
    assert trees.hashable(value) is value
