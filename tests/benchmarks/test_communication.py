"""What a step moves: the real programs' traced and compiled bytes, and a formula by hand."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

from benchmarks import communication
from benchmarks.communication import Compiled, by_kind, compiled, traced
from groundwork.devices import mesh
from groundwork.errors import UserError
from tests.groundwork import spread

HLO = """\
HloModule jit_step, is_scheduled=true, replica_count=1, num_partitions=4

%body (p: f32[8]) -> f32[8] {
  %one = f32[3,4]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%sum
  %several = (f32[], /*index=1*/s32[2]{0}, pred[3]{0}) all-reduce(%a, %b, %c), replica_groups={}, \
metadata={op_name="jit(step)/all-reduce(x)"}
  %element = s32[2]{0} get-tuple-element(%several), index=1
  %start = bf16[10]{0:T(8,128)(2,1)} all-reduce-start(%x), replica_groups=[2,2]<=[2,2]T(1,0)
  %done = bf16[10]{0} all-reduce-done(%start)
  %gather = f32[8,2]{1,0} all-gather(%x), replica_groups=mesh['row'=2,'column'=2] {'column'}
  %gathers = ((f32[2]{0}, u8[2]{0}), (f32[8]{0}, u8[8]{0})) all-gather-start(%x, %y), \
replica_groups=[1,4]<=[4], dimensions={0}
  %scatter = f64[5]{0} reduce-scatter(%x), replica_groups=mesh['row'=2,'column'=2] {'row'}
  %send = (f16[6]{0}, f16[6]{0}, u32[], u32[]) collective-permute-start(%x), \
source_target_pairs={{0,1},{1,0}}
  ROOT %swap = (s4[3]{0}, c64[1]{0}) all-to-all(%x, %y), replica_groups={{0,1,2,3}}, dimensions={0}
}
"""


def test_collectives_are_read_from_hlo():
    everyone, rows, columns = ((0, 1, 2, 3),), ((0, 1), (2, 3)), ((0, 2), (1, 3))
    assert compiled(HLO) == [
        Compiled("all-reduce", ("f32[3,4]",), 48, rows),
        Compiled("all-reduce", ("f32[]", "s32[2]", "pred[3]"), 4 + 8 + 3, everyone),
        Compiled("all-reduce", ("bf16[10]",), 20, columns),
        Compiled("all-gather", ("f32[8,2]",), 64, rows),
        Compiled("all-gather", ("f32[8]", "u8[8]"), 40, everyone),
        Compiled("reduce-scatter", ("f64[5]",), 5 * 8 * 2, columns),
        Compiled("collective-permute", ("f16[6]",), 12, ((0, 1), (1, 0))),
        Compiled("all-to-all", ("s4[3]", "c64[1]"), 2 + 8, everyone),
    ]


def test_groups_in_an_unknown_form_are_refused():
    text = "%x = f32[] all-reduce(%y), replica_groups=mesh['a'=4] {'a':(1)2}"
    with pytest.raises(ValueError, match="unknown form"):
        compiled(text)


def _mapped(function, rows=1, columns=4):
    grid = mesh.make(rows, columns, replicate=rows, data=columns, devices=jax.devices())
    by_data = PartitionSpec("data")
    return jax.jit(
        jax.shard_map(function, mesh=grid, in_specs=by_data, out_specs=by_data, check_vma=False)
    )


X = np.zeros((8, 3), np.float32)  # on four devices [2, 3] each: 24 bytes


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: lax.psum(x, "data"), {"all-reduce": 24}),
        (lambda x: lax.pmax(x, ("replicate", "data")), {"all-reduce": 24}),
        (lambda x: lax.psum(x, "replicate"), {}),
        (lambda x: x * lax.axis_index("data"), {}),
        (lambda x: lax.all_gather(x, "data").mean(0), {"all-gather": 96}),
        (
            lambda x: lax.psum_scatter(jnp.ones((4, 5)) * x.sum(), "data"),
            {"reduce-scatter": 80},
        ),
        (lambda x: lax.ppermute(x, "data", [(0, 1)]), {"collective-permute": 24}),
        (lambda x: jax.vmap(lambda row: lax.psum(row, "data"))(x), {"all-reduce": 24}),
        (lambda x: jax.vmap(lambda row: lax.psum(row, "own"), axis_name="own")(x), {}),
        (lambda x: lax.fori_loop(0, x[0, 0].astype(int), _one_more, x), {"all-reduce": 24}),
        (lambda x: lax.scan(lambda c, _: (_one_more(0, c), None), x, length=5)[0], 5 * 24),
        (lambda x: lax.cond(x[0, 0] > 0, lambda: lax.psum(x, "data"), lambda: x), 24),
        (jax.checkpoint(lambda x: lax.psum(x, "data")), {"all-reduce": 24}),
        (lambda x: _with_a_rule_of_its_own(x), {"all-reduce": 24}),
    ],
)
def test_collectives_are_found_in_a_trace(function, expected):
    expected = {"all-reduce": expected} if isinstance(expected, int) else expected
    assert by_kind(traced(_mapped(function), X)) == expected


@jax.custom_jvp
def _with_a_rule_of_its_own(x):
    return lax.psum(x, "data")


_with_a_rule_of_its_own.defjvps(lambda tangent, out, x: tangent)


def _one_more(number, x):
    return lax.psum(x, "data") + number


def test_a_primitive_that_the_table_does_not_know_is_refused(monkeypatch):
    monkeypatch.delitem(communication.KINDS, "psum")
    with pytest.raises(ValueError, match="what does 'psum' over"):
        traced(_mapped(lambda x: lax.psum(x, "data")), X)


@functools.cache
def _initial(name):
    return spread.initial(spread.MODELS[name]())


@pytest.mark.parametrize("name", spread.MODELS)
@pytest.mark.parametrize("rows", [1, 2])
def test_a_step_moves_each_byte_once_by_all_reduces_over_data(name, rows):
    columns, local = 4 // rows, 2
    made, devices = spread.on_mesh(spread.MODELS[name](), rows, columns, rows * local)
    state = spread.chosen(_initial(name), 0, rows * local)
    arguments = spread.arguments(devices, state)
    steps = made.jitted["steps"]
    expected = {"all-reduce": local * spread.step_bytes(name, state.variables["params"])}
    assert by_kind(traced(steps, *arguments)) == expected
    found = compiled(steps.lower(*arguments).compile().as_text())
    assert by_kind(found) == expected
    together = tuple(tuple(range(r * columns, (r + 1) * columns)) for r in range(rows))
    assert {each.groups for each in found} == {together}
    assert all(kind.startswith("f32[") for each in found for kind in each.types)


@pytest.mark.parametrize("name", spread.MODELS)
@pytest.mark.parametrize("rows", [1, 4])
def test_replicates_on_devices_of_their_own_move_nothing(name, rows):
    made, devices = spread.on_mesh(spread.MODELS[name](), rows, 1, rows)
    arguments = spread.arguments(devices, spread.chosen(_initial(name), 0, rows))
    assert traced(made.jitted["steps"], *arguments) == []
    assert compiled(made.jitted["steps"].lower(*arguments).compile().as_text()) == []


class OwnStatistics(nn.Module):
    """Its BatchNorm sees one device's share of a batch."""

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.BatchNorm(use_running_average=not train)(inputs.reshape((len(inputs), -1)))
        return nn.Dense(4)(x)


def test_statistics_of_a_share_of_the_batch_are_refused_and_of_all_of_it_are_not():
    state = spread.initial(OwnStatistics())
    message = (
        "batch_stats/BatchNorm_0/mean differs between the devices that share a batch: "
        'its BatchNorm needs axis_name="data" in training, or set mesh.data=1'
    )
    with pytest.raises(UserError) as refused:
        spread.train(spread.on_mesh(OwnStatistics(), 1, 2, 1), spread.chosen(state, 0, 1), 1)
    assert str(refused.value) == message
    spread.train(spread.on_mesh(OwnStatistics(), 2, 1, 2), spread.chosen(state, 0, 2), 1)
