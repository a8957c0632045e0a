"""Choices that samplers propose."""

import pytest

from compress.search import evolve
from compress.search.options import Space
from compress.search.settings import Setting
from tests.compress.search.small import candidate

OPTIONS = tuple(
    Setting(density=density, bits=bits) for density in (1.0, 0.5, 0.1) for bits in (0, 4, 2)
)
APART = (Setting(), Setting(units=0.5), Setting(method="svd", rank=2))
SPACE = Space(options={"a": OPTIONS, "b": OPTIONS, "c": (Setting(),)})


def objectives(one):
    return [-one.accuracy, one.cost("bytes")]


def proposed(history, sampler="nsga2", space=SPACE, **more):
    return evolve.propose(space, history, objectives, sampler=sampler, population=4, seed=3, **more)


def searched(sampler, count):
    """A search whose accuracy is a hidden function of the choice."""
    history = []
    for number in range(count):
        choice = proposed(history, sampler)
        size = sum(choice.get(layer, Setting()).density for layer in "ab")
        failed = "lost" if number == 2 else ""
        rungs = [] if failed else [(size, 100 * size)]
        history.append(candidate(number, choice, *rungs, failed=failed))
    return history


@pytest.mark.parametrize("sampler", ["random", "nsga2", "tpe"])
def test_what_is_proposed_is_new_and_a_function_of_seed_and_history(sampler):
    if sampler != "random":
        pytest.importorskip("optuna")
    history = searched(sampler, 9)
    choices = [one.choice for one in history]
    assert all(choice not in choices[:n] for n, choice in enumerate(choices))
    for number in (4, 8):  # past a generation, and past what failed
        assert proposed(history[:number], sampler) == choices[number]
    for choice in choices:
        SPACE.check(choice)
        assert all(one.bits for one in choice.values())  # never float32


def test_a_knob_is_what_can_be_turned():
    assert evolve.knobs(SPACE) == {
        "a density": (0.1, 0.5, 1.0), "a bits": (2, 4),
        "b density": (0.1, 0.5, 1.0), "b bits": (2, 4),
    }  # fmt: skip
    assert evolve.knobs(Space(options={"a": APART})) == {
        "a form": ((1.0, 0, ""), (0.5, 0, ""), (1.0, 2, "svd"))
    }


def test_what_excludes_each_other_is_not_proposed():
    space = Space(options={"a": APART, "b": APART})
    history = []
    for number in range(6):
        history.append(candidate(number, proposed(history, "random", space), (0.5, 1)))
        space.check(history[-1].choice)
    some = {tuple(sorted(one.choice.items(), key=str)) for one in history}
    assert len(some) == 6  # of the 9, two take units and factorise


def test_what_is_not_allowed_is_taken_only_if_there_is_nothing_else():
    cheap = proposed([], "random", allowed=lambda choice: choice["a"].density == 0.1)
    assert cheap["a"].density == 0.1
    SPACE.check(proposed([], "random", allowed=lambda choice: False))


def test_without_optuna_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(evolve.UserError, match=r"pip install -r requirements-search\.txt"):
        evolve.check_installed()


def test_of_several_proposals_the_best_is_taken():
    cheap = proposed([], "random", screened=20, worse=lambda choice: choice["a"].density)
    assert cheap["a"].density == 0.1
    first = proposed([], "random")
    assert proposed([], "random", screened=5) == first
