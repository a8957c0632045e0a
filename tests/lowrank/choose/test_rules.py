"""`lowrank.choose.rules`, and what the command says of its own keys."""

import pytest

from groundwork.errors import UserError
from lowrank import spec
from lowrank.choose import ranks, rules
from lowrank.choose.rules import Rules

GOOD = Rules(
    methods=("svd", "any"),
    ranks="budget",
    shares=(0.25, 1),
    measure="macs",
    leave=("conv*",),
    keep_slow=False,
)


def test_checks_speak_of_their_argument():
    rules.check_methods(["svd", "any"], "budget")
    rules.check_methods(("svd", "spatial", "tucker"), "energy")
    rules.check_shares((1, 0.5), "budget")
    rules.check_shares((), "vbmf")
    for check, arguments, message in (
        (rules.check_methods, ("svd", "budget"), r"^'svd' must be a sequence"),
        (rules.check_methods, (("sdv",), "budget"), r"^unknown method 'sdv'; did you mean 'svd'\?"),
        (rules.check_methods, ((), "budget"), r"^\(\) must name methods, each once"),
        (rules.check_methods, (("cp",), "energy"), "^the ranks of 'cp' are chosen by budget alone"),
        (rules.check_methods, (("any",), "vbmf"), r"alone \(by rule: svd, spatial, tucker\)"),
        (rules.check_rule, ("energi",), "^unknown rule 'energi'; did you mean 'energy'"),
        (rules.check_shares, (0.5, "budget"), "^0.5 must be a sequence"),
        (rules.check_shares, ((2.0,), "budget"), r"^\(2.0,\) must lie in \(0, 1\]"),
        (rules.check_shares, ((), "energy"), r"^\(\) is empty: give shares in \(0, 1\]"),
        (rules.check_shares, ((0.5, 0.5), "budget"), "must name each share once"),
        (rules.check_measure, ("mac",), "^unknown measure 'mac'; did you mean 'macs'"),
        (rules.check_leave, ("conv1",), "^'conv1' must be a sequence"),
        (rules.check_leave, ((1,),), r"^\(1,\) must be patterns"),
    ):
        with pytest.raises(ValueError, match=message):
            check(*arguments)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": ("qr",)}, "factorize.method: unknown method 'qr' (known: "),
        ({"ranks": "energi"}, "factorize.ranks: unknown rule 'energi'; did you mean 'energy'?"),
        ({"shares": (2.0,)}, "factorize.shares: (2.0,) must lie in (0, 1]"),
        ({"measure": "mac"}, "factorize.measure: unknown measure 'mac'; did you mean 'macs'?"),
        ({"leave": (1,)}, "factorize.leave: (1,) must be patterns, such as ('conv1',)"),
    ],
)
def test_a_section_names_its_own_keys(wrong, said):
    spec.check_rules(GOOD, "factorize", "method")
    with pytest.raises(UserError) as refused:
        spec.check_rules(Rules(**{**vars(GOOD), **wrong}), "factorize", "method")
    assert str(refused.value).startswith(said)


def test_settings_are_shares_the_largest_first():
    assert GOOD.settings == (1.0, 0.25)
    assert Rules(**{**vars(GOOD), "ranks": "vbmf"}).settings == (0.0,)


def test_a_rule_chooses_ranks_of_matrices():
    sigma = [3.0, 2.0, 1.0]
    assert Rules(**{**vars(GOOD), "ranks": "energy"}).rule(0.9)(sigma) == ranks.energy(sigma, 0.9)
    assert Rules(**{**vars(GOOD), "ranks": "vbmf"}).rule(0.0) is ranks.vbmf
