"""Values against annotations: taken in Python's types, or refused with what would be right."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from groundwork import config as config_lib
from groundwork import typed
from groundwork.errors import UserError, shown

TEXTS = Annotated[tuple[str, ...], "texts, such as ('*kernel',)"]
RATE = Annotated[float | Mapping[str, float], "a number in [0, 1)"]

TAKEN = [
    (3, int, 3),
    (np.int64(3), int, 3),
    (2**31 - 1, int, 2**31 - 1),
    (2**32 - 1, typed.Seed, 2**32 - 1),
    (3, float, 3.0),
    (np.float32(0.5), float, 0.5),
    (math.inf, typed.Unbounded, math.inf),
    (True, bool, True),
    (np.bool_(False), bool, False),
    (np.str_("a"), str, "a"),
    ([1, 2], tuple[int, ...], (1, 2)),
    (np.array([1, 2]), tuple[float, ...], (1.0, 2.0)),
    ((4, 2.5), tuple[int | float, ...], (4, 2.5)),
    ([["a"], ("b", "c")], tuple[tuple[str, ...], ...], (("a",), ("b", "c"))),
    ({"a": 1}, RATE, {"a": 1.0}),
    ("all", Literal["all"] | int, "all"),
    ({"a": np.int64(1), "b": [None]}, Any, {"a": 1, "b": [None]}),
    (None, int | None, None),
]


def types(value):
    if isinstance(value, dict):
        return {key: types(inner) for key, inner in value.items()}
    return [type(value), *map(types, value)] if isinstance(value, list | tuple) else type(value)


@pytest.mark.parametrize(("given", "kind", "taken"), TAKEN)
def test_a_value_of_its_kind_is_taken_in_python_s_types(given, kind, taken):
    found = typed.value("key", given, kind)
    assert found == taken
    assert types(found) == types(taken)


REFUSED = [
    ("3", int, "key='3' must be an integer"),
    (3.0, int, "key=3.0 must be an integer"),
    (True, int, "key=True must be an integer"),
    (2**31, int, "key=2147483648 must be less than 2**31"),
    (-(2**31), int, "must be more than -2**31"),
    (2**32, typed.Seed, "key=4294967296 must be less than 2**32"),
    (10**5000, int, "must be less than 1e300"),
    (False, float, "key=False must be a number"),
    ("0.5", float, "key='0.5' must be a number"),
    (math.nan, float, "key=nan must be a finite number"),
    (-math.inf, float, "key=-inf must be a finite number"),
    (10**400, float, "must be less than 1e300"),
    ("yes", bool, "key='yes' must be True or False"),
    (1, bool, "key=1 must be True or False"),
    (None, str, "key=None must be a text"),
    (b"a", str, "it is a bytes"),
    ("nul\0", str, "without NUL"),
    ("\udc80", str, "lone surrogates"),
    ((1, 2), TEXTS, "key=(1, 2) must be texts, such as ('*kernel',)"),
    ((None,), TEXTS, "key=(None,) must be texts"),
    (None, TEXTS, "key=None must be texts"),
    ("abc", TEXTS, "key='abc' must be texts"),
    ((0.5,), tuple[int, ...], "key=(0.5,) must be integers, such as (1, 2)"),
    ((10**20,), tuple[int, ...], "must be less than 2**31"),
    ((math.nan,), tuple[float, ...], "finite"),
    (["a"], tuple[tuple[str, ...], ...], "such as (('a', 'b'),)"),
    ({"a": "x"}, RATE, "key['a']='x' must be a number in [0, 1)"),
    ("x", RATE, "key='x' must be a number in [0, 1)"),
    ({1: 0.2}, RATE, "its key 1 must be a text"),
    ("al", Literal["all", "none"], "unknown key 'al'; did you mean 'all'?"),
    (["all"], Literal["all", "none"], "unknown key ['all']"),
    (object(), Any, "it is a object"),
    ({"a": [math.nan]}, Any, "NaN"),
    (np.array([None]), Any, "it is a ndarray"),
    ({1, 2}, Any, "it is a set"),
]


@pytest.mark.parametrize(("given", "kind", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_value_of_another_kind_is_refused_with_its_key(given, kind, said):
    with pytest.raises(UserError) as caught:
        typed.value("key", given, kind)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@dataclasses.dataclass(frozen=True)
class Section:
    steps: int
    rates: tuple[float, ...] = ()


@pytest.mark.parametrize("section", [None, 3, "x", [], ()])
def test_a_section_is_a_section(section):
    with pytest.raises(UserError, match=r"train=.* must be a section, with keys and values"):
        config_lib.build(Section, section, "train")


def test_a_section_is_built_of_values_in_their_types():
    built = config_lib.build(Section, {"steps": np.int32(2), "rates": [1, 0.5]}, "train")
    assert built == Section(2, (1.0, 0.5))
    assert types(dataclasses.astuple(built)) == [tuple, int, [tuple, float, float]]


def test_a_shown_value_is_one_short_line():
    class Odd:
        def __repr__(self):
            raise ValueError

    for value in ("x" * 10**5, "a\nb\x1b", 10**5000, Odd(), np.zeros((50, 50))):
        assert len(shown(value)) < 100
        assert shown(value).isprintable()


def test_what_json_cannot_keep_is_refused_wherever_it_stands():
    deep: Any = 1
    for _ in range(40):
        deep = {"a": [deep]}
    with pytest.raises(UserError, match="is nested in more than 32 levels"):
        typed.plain("key", deep)
    with pytest.raises(UserError, match=r"key\.a=.* must be less than 1e300"):
        typed.plain("key", {"a": [10**5000]})


def test_an_error_is_one_line_of_some_hundred_characters():
    error = UserError("a\nb\x1b[31m " + "x" * 10**5 + " end")
    assert str(error).isprintable()
    assert str(error).startswith("a\\nb\\x1b[31m xx")
    assert str(error).endswith("xx end")
    assert len(str(error)) <= 1000
