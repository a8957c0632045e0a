"""The space of a network: what is in it, what is left out and why."""

import dataclasses
import json

import jax
import pytest

from compress.search import settings
from compress.search.options import Space, Units
from compress.search.settings import AS_IT_IS, Setting
from compress.search.space import SpaceSpec, make
from groundwork.errors import UserError
from tests.compress.search.conftest import SPEC


def made(searched, spec, **how):
    one = searched.original
    return make(spec, one.model, one.shapes, one.dataset.example, **how)


def test_every_form_goes_with_every_density_and_number_of_bits(searched):
    found = searched.space
    assert list(found.options) == ["conv", "fc"]
    assert all(row[0] == AS_IT_IS for row in found.options.values())
    fc = found.options["fc"]
    low_rank = [one for one in fc if one.method]
    assert {(one.method, one.rank) for one in low_rank} == {("svd_outputs", 2)}
    # densities 1, 0.5, 0.2; bits 0, 2; inputs 0, 2, which narrow layers keep
    assert len(low_rank) == 3 * 2 * 2
    assert sum(one.units < 1 for one in fc) == 3 * 2
    assert len(fc) == len(set(fc)) == 12 + 12 + 6
    assert found.size == 30 * len(found.options["conv"])


def test_what_is_not_possible_is_left_out_with_the_reason(searched):
    assert searched.space.left["output"] == "space.leave names it"
    spec = SpaceSpec(
        methods=("svd", "tucker"), ranks=(0.9,), units=(0.99,), densities=(0.001,), bits=(4,)
    )
    found = made(searched, spec)
    assert found.left["conv by svd"] == "no rank of space.ranks makes it smaller"
    assert found.left["fc by tucker"] == "the method is not for such a kernel"
    assert found.left["units of conv"] == "all 4 would stay"
    assert found.left["density 0.001 of conv"] == "none of 36 weights would stay"
    assert found.options["conv"] == (AS_IT_IS, Setting(bits=4))
    assert "not proposed: fc by tucker: " in str(found)


def test_units_are_those_of_the_groups_and_of_the_layers_that_take_them(searched):
    assert searched.space.units == {
        "conv": Units(4, ("conv", "fc")),
        "fc": Units(8, ("fc", "output")),
    }
    assert searched.space.axes["fc"] == ({"conv": 1.0}, {"fc": 1.0})
    assert Units(5, ()).kept(0.1) == 1


def test_it_is_read_back_from_json(searched):
    saved = json.loads(json.dumps(searched.space.to_json()))
    assert Space.from_json(saved) == searched.space
    choice = {"fc": Setting(method="tucker", rank=(2, 3)), "conv": AS_IT_IS}
    saved = json.loads(json.dumps(settings.to_json(choice)))
    assert settings.from_json(saved) == {"fc": choice["fc"]}
    assert settings.plan(choice) == {"fc": {"method": "tucker", "rank": [2, 3]}}


def test_units_and_low_rank_layers_are_chosen_apart(searched):
    with_form, with_units = searched.space.parts()
    assert {one.units for row in with_form.options.values() for one in row} == {1.0}
    assert not any(one.method for row in with_units.options.values() for one in row)
    assert any(one.units < 1 for one in with_units.options["conv"])
    alone = made(searched, dataclasses.replace(SPEC, units=()))
    assert alone.parts() == (alone,)
    choice = {"conv": Setting(units=0.5), "fc": Setting(method="svd_outputs", rank=2)}
    with pytest.raises(ValueError, match="without some units is neither factorised"):
        searched.space.check(choice)
    with pytest.raises(ValueError, match="fc: 7 bits is none of its options"):
        searched.space.check({"fc": Setting(bits=7)})
    with pytest.raises(ValueError, match=r"output stays as it is: space\.leave"):
        searched.space.check({"output": Setting(bits=2)})
    searched.space.check({"fc": Setting(bits=2)})


def test_options_of_curves_change_one_thing(searched):
    found = made(searched, SPEC, alone=True)
    assert [str(one) for one in found.options["fc"]] == [
        "as it is",
        "0.5 of the units",
        "svd_outputs 2",
        "density 0.5",
        "density 0.2",
        "2 bits",
        "inputs of 2 bits",
    ]


def test_an_empty_space_and_wrong_keys_are_refused(searched):
    with pytest.raises(UserError, match=r"space: there is nothing to choose for any layer: give"):
        made(searched, SpaceSpec())
    with pytest.raises(UserError, match=r"there is nothing to choose .*\(conv: space\.leave"):
        made(searched, dataclasses.replace(SPEC, leave=("*",)))
    with pytest.raises(UserError, match=r"space\.leave 'nothing'"):
        made(searched, dataclasses.replace(SPEC, leave=("nothing",)))
    for keys, message in (
        ({"densities": (1.5,)}, r"space\.densities=\(1\.5,\) must lie in \(0, 1\]"),
        ({"bits": (0,)}, r"space\.bits=\(0,\) must be in 1…16"),
        ({"methods": ("lu",), "ranks": (0.5,)}, r"space\.methods 'lu'"),
        ({"ranks": (0.5,)}, r"space\.methods and space\.ranks go together"),
        ({"criterion": "age"}, r"space\.criterion 'age'"),
    ):
        with pytest.raises(UserError, match=message):
            SpaceSpec(**keys)
    for fields, message in (
        ({"depth": 3}, "depth is no part of a setting"),
        ({"density": 0}, r"density=0 must lie in \(0, 1\]"),
        ({"bits": 17}, "bits=17 must be an integer from 0 to 16"),
        ({"method": "svd"}, "rank=0 and method='svd' go together"),
    ):
        with pytest.raises(ValueError, match=f"fc: {message}"):
            settings.from_json({"fc": fields})
    assert jax.tree.leaves(searched.original.shapes)  # nothing was computed for it
