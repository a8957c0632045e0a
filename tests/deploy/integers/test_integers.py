"""Integer-only inference beside float64 arithmetic on the same points of the grids."""

import dataclasses

import numpy as np
import pytest

from deploy import integers
from deploy.graphs.graph import FREE, Graph, Grid, Node, Stored, Value
from deploy.integers import fixed
from tests.deploy.operations_by_hand import (
    CASES,
    arguments,
    expected,
    floats,
    graph_of,
    integer_graph_of,
    on_grid,
)

REFUSED = ("div", "pow")
WHOLE = [name for name in CASES if name.split("/")[0] not in REFUSED]


def points(case, graph):
    """What the integers stand for: inputs, and constants as they are stored."""
    given = zip(arguments(case), graph.inputs, strict=True)
    inputs = [on_grid(x, graph.grids[name]) for x, name in given]
    if graph.stored:
        found = fixed.parameters(graph, graph.nodes[0])
        unit = float(np.float32(graph.grids["x0"].scale))
        return inputs, (found.codes * found.scales, found.bias * unit * found.scales)
    return inputs, tuple(
        on_grid(array, integers.constant_grid(case.operation, array, graph.grids["logits"]))
        for array in graph.constants.values()
    )


@pytest.mark.parametrize("name", WHOLE)
def test_an_operation_gives_the_nearest_codes(name):
    """Within half a step; within 3/4 where a product and a shift both round."""
    case = CASES[name]
    graph = integer_graph_of(case)
    inputs, constants = points(case, graph)
    at = graph.grids["logits"]
    exact = expected(case, inputs, constants)
    ends = [(end - at.zero) * at.scale for end in (-128, 127)]
    for rounding, steps in (("once", 0.5), ("twice", 0.75)):
        found = integers.run(graph, *arguments(case), rounding=rounding)
        assert found.dtype == np.float32
        error = np.abs(found - np.clip(exact, *ends)) / at.scale
        assert error.max() <= steps + 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_integers_is_refused_by_name(name):
    graph = integer_graph_of(CASES[name])
    with pytest.raises(ValueError, match=f"integer-only inference has no {name} of 'layer'"):
        integers.run(graph, *arguments(CASES[name]))


def test_a_graph_of_floats_is_calibrated_on_these_inputs():
    case = CASES["sub"]
    given = arguments(case)
    found = integers.run(graph_of(case), *given)
    exact = expected(case, given)
    inputs = sum(np.ptp(np.append(x, 0)) / 255 for x in given)
    step = np.ptp(np.append(exact, 0)) / 255
    assert np.abs(found - exact).max() <= (inputs + step) / 2 * 1.01


def test_codes_are_int8_and_named():
    case = CASES["conv"]
    graph = integer_graph_of(case)
    found = integers.codes(graph, *arguments(case))
    assert set(found) == {"x0", "logits"}
    assert {array.dtype for array in found.values()} == {np.dtype(np.int8)}
    logits = fixed.dequantized(found["logits"], graph.grids["logits"])
    np.testing.assert_array_equal(logits, integers.run(graph, *arguments(case)))


def test_a_pruned_output_keeps_its_bias():
    """Its scale of 0 would leave no room for it in 32 bits; neither would one of 1e-12."""
    case = CASES["dense/three axes"]
    graph = integer_graph_of(case)
    codes, scales = graph.stored["c0"].codes.copy(), graph.stored["c0"].scales.copy()
    codes[:, 0], scales[0], scales[1] = 0, 0.0, 1e-12
    graph = dataclasses.replace(graph, stored={"c0": Stored(codes, scales)})
    found, at = integers.run(graph, *arguments(case)), graph.grids["logits"]
    for k in (0, 1):
        bias = on_grid(case.constants[1][k], at)
        assert np.abs(found[..., k] - bias).max() <= 1.001 * at.scale


def test_a_sum_that_could_leave_an_int32_is_refused():
    kernel = np.full((70_000, 1), 127, np.int8)
    graph = Graph(
        inputs=("input",),
        outputs=("logits",),
        nodes=(Node(operation="dense", inputs=("input", "k", "b"), output="logits", layer="fc"),),
        values={"input": Value((1, 70_000)), "logits": Value((1, 1))},
        constants={"k": kernel.astype(np.float32), "b": np.zeros(1, np.float32)},
        grids={"input": Grid(0.1, 0), "logits": Grid(0.1, 0)},
        stored={"k": Stored(kernel, np.ones(1, np.float32))},
    )
    with pytest.raises(ValueError, match="'fc' could leave an int32"):
        integers.run(graph, np.zeros((1, 70_000), np.float32))


def test_indices_choose_rows_and_pass_as_they_are():
    table = floats(5, 3)
    at = Grid(float(np.abs(table).max() / 127), 0)
    nodes = (
        Node(operation="reshape", inputs=("input",), output="flat"),
        Node(operation="gather", inputs=("table", "flat"), output="logits"),
    )
    graph = Graph(
        inputs=("input",),
        outputs=("logits",),
        nodes=nodes,
        values={
            "input": Value((2, 2), "int32"),
            "flat": Value((4,), "int32"),
            "table": Value((5, 3)),
            "logits": Value((4, 3)),
        },
        constants={"table": table},
        grids={"logits": at},
        structure="tuple",
    )
    rows = np.array([[4, 0], [2, 2]], np.int32)
    (found,) = integers.run(graph, rows)
    np.testing.assert_allclose(found, table[rows.ravel()], atol=at.scale / 2 * 1.001)


def test_indices_have_arithmetic_of_their_own():
    """Rows 7 and −9 are clipped to the table; what compares codes is refused."""
    table = floats(5, 3)
    at = Grid(float(np.abs(table).max() / 127), 0)
    nodes = (
        Node(operation="clip", inputs=("input",), output="in", attributes={"bounds": (-2, 3)}),
        Node(operation="add", inputs=("in", "one"), output="rows", attributes={"bounds": FREE}),
        Node(operation="gather", inputs=("table", "rows"), output="logits"),
    )
    indices = Value((3,), "int32")
    graph = Graph(
        inputs=("input",),
        outputs=("logits",),
        nodes=nodes,
        values={
            "input": indices,
            "in": indices,
            "rows": indices,
            "one": Value((), "int32"),
            "table": Value((5, 3)),
            "logits": Value((3, 3)),
        },
        constants={"table": table, "one": np.int32(1)},
        grids={"logits": at},
    )
    rows = np.array([7, -9, 1], np.int32)
    exact = table[[4, -1, 2]]
    np.testing.assert_allclose(integers.run(graph, rows), exact, atol=at.scale / 2 * 1.001)
    less = Node(operation="less", inputs=("logits", "logits"), output="which")
    more = dict(graph.values) | {"which": Value((3, 3), "bool")}
    graph = dataclasses.replace(graph, nodes=(*nodes, less), values=more, outputs=("which",))
    with pytest.raises(ValueError, match="has no less: its operands have a grid"):
        integers.run(graph, rows)


def test_other_shapes_are_refused():
    graph = integer_graph_of(CASES["add"])
    with pytest.raises(ValueError, match="takes inputs of shapes"):
        integers.run(graph, np.zeros((1, 2), np.float32))
