"""All public functions of `exits` take lists and arrays of any library, or say why not."""

import fractions

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from groundwork.errors import UserError
from msdnet import exits

CONFIDENCES = np.arange(60).reshape(20, 3) % 7 / 8  # in any type of number, bfloat16 too
CORRECT = np.arange(60).reshape(20, 3) % 2 == 0
COSTS = [1.0, 2.0, 4.0]
THRESHOLDS = [0.5, 0.25]
SHARES = [0.5, 0.25, 0.25]
AT = np.arange(20) % 3
CURVE = [exits.Outcome(0.5, 1.0), exits.Outcome(0.75, 2.0)]
CALLS = {
    "route": (exits.route, [CONFIDENCES, THRESHOLDS]),
    "for_shares": (exits.for_shares, [CONFIDENCES, SHARES]),
    "thresholds": (exits.thresholds, [np.tile(CONFIDENCES, (2, 1)), COSTS, 2.0]),
    "shares": (exits.shares, [3, 0.5]),
    "check_thresholds": (exits.check_thresholds, [THRESHOLDS, 3]),
    "numbers": (lambda given: exits.numbers("these", given), [COSTS]),
    "outcome": (exits.outcome, [CORRECT, AT, COSTS]),
    "anytime": (exits.anytime, [CORRECT, COSTS]),
    "budgeted": (exits.budgeted, [CONFIDENCES, CONFIDENCES, CORRECT, COSTS]),
    "area": (exits.area, [CURVE]),
    "confidence": (exits.confidence, [CONFIDENCES]),
}
FORMS = {
    "lists": lambda given: np.asarray(given).tolist(),
    "float32": lambda given: np.asarray(given, np.float32),
    "float64": lambda given: np.asarray(given, np.float64),
    "jax": jnp.asarray,
    "bfloat16": lambda given: jnp.asarray(given, jnp.bfloat16),
}


def test_every_public_function_is_called_here():
    functions = {name for name in exits.__all__ if callable(getattr(exits, name))}
    assert {*CALLS} == functions - {"Outcome"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CALLS)
def test_lists_and_arrays_of_any_library_are_taken_alike(name, form):
    function, arguments = CALLS[name]
    whole = {"shares", "check_thresholds", "area"}  # a number of exits, or a curve
    given = [
        argument if name in whole and isinstance(argument, int) else FORMS[form](argument)
        for argument in arguments
    ]
    found, expected = function(*given), function(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected)


def test_numbers_of_python_of_any_size_are_taken():
    found = exits.numbers("these", [10**30, fractions.Fraction(1, 4)])
    assert found.tolist() == [1e30, 0.25]


NAN = np.full((20, 3), np.nan)
WRONG = {
    "one axis": (
        exits.route,
        ([0.5, 0.25], [0.5]),
        r"confidences must be \[N, exits\], not .*\(2,\)",
    ),
    "no exit": (exits.route, (np.zeros((3, 0)), []), r"confidences must be \[N, exits\]"),
    "text": (exits.route, ([["0.5", "1"]], [0.5]), "confidences must be numbers, not <U3"),
    "complex": (exits.route, ([[0.5j, 1]], [0.5]), "confidences must be numbers, not complex128"),
    "nothing": (exits.route, (None, [0.5]), "confidences must be numbers, not object"),
    "ragged": (exits.route, ([[0.5, 1], [1]], [0.5]), "confidences must be numbers: "),
    "a threshold more": (exits.route, (CONFIDENCES, [1, 2, 3]), "3 exits need 2 thresholds"),
    "no exits": (exits.shares, (0, 0.5), "exits=0 must be an integer from 1"),
    "half an exit": (exits.shares, (2.5, 0.5), "exits=2.5 must be an integer from 1"),
    "no ratio": (exits.shares, (3, 0), "a ratio of 0 must be one number above 0"),
    "ratios": (exits.shares, (3, [1, 2]), r"a ratio of \[1, 2\] must be one number"),
    "NaN for shares": (exits.for_shares, (NAN, SHARES), "confidences hold NaN"),
    "fewer shares": (exits.for_shares, (CONFIDENCES, [1.0]), "must be 3 numbers that add up to 1"),
    "shares below 0": (exits.for_shares, (CONFIDENCES, [2, -1, 0]), "that add up to 1"),
    "shares of 2": (exits.for_shares, (CONFIDENCES, [1, 1, 0]), "that add up to 1"),
    "an exit below 0": (
        exits.outcome,
        (CORRECT, AT - 1, COSTS),
        "exits must be integers from 0 to 2",
    ),
    "an exit too far": (
        exits.outcome,
        (CORRECT, AT + 1, COSTS),
        "exits must be integers from 0 to 2",
    ),
    "fewer exits": (exits.outcome, (CORRECT, AT[:5], COSTS), "20 examples leave at as many exits"),
    "fewer costs": (
        exits.outcome,
        (CORRECT, AT, [1]),
        r"correct must be \[N, 1\], not .*\(20, 3\)",
    ),
    "a cost of NaN": (
        exits.anytime,
        (CORRECT, [1, 2, np.nan]),
        "must be one finite number for each",
    ),
    "no example": (exits.anytime, (CORRECT[:0], COSTS), "correct has no example"),
    "counts": (exits.anytime, (3 * CORRECT, COSTS), "correct must be bool"),
    "a curve of none": (exits.area, ([],), "a curve must be points of an accuracy and a cost"),
    "a curve of NaN": (exits.area, ([(np.nan, 1.0)],), "a curve must be points"),
    "other exits": (
        exits.budgeted,
        (CONFIDENCES[:, 1:], CONFIDENCES, CORRECT, COSTS),
        "validation",
    ),
    "other examples": (
        exits.budgeted,
        (CONFIDENCES, CONFIDENCES[1:], CORRECT, COSTS),
        "20 examples",
    ),
    "no classes": (exits.confidence, (np.zeros((3, 0)),), r"logits must be \[..., classes\]"),
    "one logit": (exits.confidence, (1.0,), r"logits must be \[..., classes\]"),
    "logits of text": (exits.confidence, (["a"],), "logits must be real numbers, not <U1"),
    "ragged logits": (exits.confidence, ([[1.0], [1.0, 2.0]],), "logits must be numbers: "),
    "complex logits": (exits.confidence, ([1j],), "logits must be real numbers, not complex128"),
    "unknown kind": (exits.confidence, ([1.0], "sofmax"), "did you mean 'softmax'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_is_a_value_error_of_one_line(case):
    function, arguments, said = WRONG[case]
    with pytest.raises(ValueError, match=said) as caught:
        function(*arguments)
    assert isinstance(caught.value, UserError)  # one line, where a command calls it
    assert "\n" not in str(caught.value)


def test_what_is_decided_on_the_host_says_so_inside_jit():
    with pytest.raises(ValueError, match="confidences must be known: it is decided on the host"):
        jax.jit(lambda rows: exits.route(rows, THRESHOLDS))(CONFIDENCES)
    assert jax.jit(exits.confidence)(CONFIDENCES).shape == (20,)
