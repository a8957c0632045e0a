"""`lottery.iterate` against a NumPy loop, on the trees of several libraries, and resumed."""

import functools
import json

import equinox as eqx
import flax
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import lottery
from groundwork import trees
from groundwork.errors import UserError
from groundwork.runs import checkpoint
from groundwork.runs.run import locked
from lottery import criteria, masks, tickets
from pruning.criteria import CRITERIA, Criterion
from tests.lottery.small import assert_same_tree

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (16, 3))
SHAPES = {"a/kernel": (3, 6), "b/kernel": (6, 5), "c/kernel": (2, 4, 3)}


def _params():
    kernels = {
        path: jax.random.normal(jax.random.fold_in(KEY, i), SHAPES[path])
        for i, path in enumerate(SHAPES)
    }
    tree = {path[0]: {"kernel": kernel, "bias": jnp.zeros(2)} for path, kernel in kernels.items()}
    return {**tree, "steps": jnp.arange(2)}


def _moved(params, mask):
    """A deterministic training: each weight moves by a share that depends on its place."""

    def moved(path, leaf):
        if path not in mask:
            return leaf + 1
        shift = jnp.sin(jnp.arange(leaf.size)).reshape(leaf.shape).astype(leaf.dtype)
        return jnp.where(mask[path], leaf * 0.9 + 0.3 * shift, 0)

    return trees.map_with_path(moved, params)


def _kept(mask):
    return sum(int(keep.sum()) for keep in mask.values())


class Counted:
    """A training that counts its calls, and may fail at one of them."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def __call__(self, params, mask):
        self.calls.append(_kept(mask))
        if len(self.calls) - 1 == self.fails_at:
            raise RuntimeError("power cut")
        return _moved(params, mask)


def _numpy_levels(levels, rates, scope, rewind):
    """The loop of the paper in NumPy: (masks, trained kernels) of each level."""
    start = {path: np.asarray(leaf) for path, leaf in masks.flatten(_params()).items()}
    mask = {path: np.ones(shape, bool) for path, shape in SHAPES.items()}
    trained, found = start, []
    for level in range(levels + 1):
        if level:
            by = {p: p[0] if scope == "layerwise" else rates[p[0]] for p in SHAPES}
            new = {path: np.zeros_like(keep) for path, keep in mask.items()}
            for group in set(by.values()):
                paths = [p for p in sorted(SHAPES) if by[p] == group]
                entries = [(p, i) for p in paths for i in np.ndindex(SHAPES[p]) if mask[p][i]]
                entries.sort(key=lambda e: -abs(trained[e[0]][e[1]]))
                count = len(entries) - round(rates[paths[0][0]] * len(entries))
                for path, index in entries[:count]:
                    new[path][index] = True
            mask = new
        ticket = start if rewind else trained
        trained = {
            p: np.asarray(_moved({p: jnp.where(mask[p], ticket[p], 0)}, mask)[p]) for p in SHAPES
        }
        found.append((mask, trained))
    return found


@pytest.mark.parametrize("rewind", [True, False])
@pytest.mark.parametrize(
    ("scope", "rate"),
    [("layerwise", {"*": 0.3, "b": 0.5}), ("global", 0.25), ("global", {"*": 0.3, "b": 0.5})],
)
def test_levels_are_those_of_a_numpy_loop(scope, rate, rewind):
    rates = (
        dict.fromkeys("abc", rate) if isinstance(rate, float) else {"a": 0.3, "b": 0.5, "c": 0.3}
    )
    expected = _numpy_levels(3, rates, scope, rewind)
    fit = Counted()
    found = list(lottery.iterate(_params(), fit, levels=3, rate=rate, scope=scope, rewind=rewind))
    assert [level.number for level in found] == [0, 1, 2, 3]
    assert len(fit.calls) == 4
    total = sum(np.prod(shape) for shape in SHAPES.values())
    before = _params()
    for level, (mask, trained) in zip(found, expected, strict=True):
        assert level.density == sum(keep.sum() for keep in mask.values()) / total
        assert_same_tree({p: np.asarray(m) for p, m in level.mask.items()}, mask)
        kernels = {p: np.asarray(leaf) for p, leaf in masks.flatten(level.trained).items()}
        for path in SHAPES:
            np.testing.assert_allclose(kernels[path], trained[path], rtol=1e-6)
        assert int(level.trained["steps"][0]) == (1 if rewind else level.number + 1)
        if rewind:
            assert_same_tree(
                jax.tree.map(np.asarray, level.rewound),
                jax.tree.map(np.asarray, masks.apply(level.mask, before)),
            )


# --- trees of other libraries, trained by their own means


def _weights(path):
    return path.rpartition("/")[2] in ("kernel", "weight", "w")


class _NNX(nnx.Module):
    def __init__(self, rngs):
        self.first, self.norm = nnx.Linear(3, 6, rngs=rngs), nnx.BatchNorm(6, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)  # with a key among its state
        self.last = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


def _linen():
    model = nn.Sequential([nn.Dense(6), nn.BatchNorm(use_running_average=True), nn.Dense(2)])
    return model.init(KEY, X), model.apply


def _frozen():
    variables, apply = _linen()
    return flax.core.freeze(variables), apply


def _nnx():
    graph, state = nnx.split(_NNX(nnx.Rngs(0)))

    def apply(state, x):
        model = nnx.merge(graph, state)
        model.eval()
        return model(x)

    return state, apply


def _equinox():
    params, static = eqx.partition(eqx.nn.MLP(3, 2, 6, 1, key=KEY), eqx.is_array)
    return params, lambda params, x: jax.vmap(eqx.combine(params, static))(x)


def _haiku():
    network = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([6, 2])(x)))
    return network.init(KEY, X), network.apply


def _short():
    params, apply = _haiku()
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), apply


LIBRARIES = {
    "linen": _linen,
    "frozen": _frozen,
    "nnx": _nnx,
    "equinox": _equinox,
    "haiku": _haiku,
    "bfloat16": _short,
}


def _trainer(apply):
    """Two steps of Adam under `enforce`; the parameters that come in are donated."""

    @functools.partial(jax.jit, donate_argnums=0)
    def train(params, mask):
        floats = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact)  # noqa: E731
        optimizer = masks.enforce(optax.adamw(0.05), mask)
        weights, rest = eqx.partition(params, jax.tree.map(floats, params))
        state = optimizer.init(weights)
        for _ in range(2):
            loss = lambda w: jnp.sum(jnp.square(apply(eqx.combine(w, rest), X) - 1))  # noqa: E731
            updates, state = optimizer.update(jax.grad(loss)(weights), state, weights)
            weights = optax.apply_updates(weights, updates)
        return eqx.combine(weights, rest)

    return train


@pytest.mark.parametrize("name", LIBRARIES)
def test_trees_of_any_library_are_pruned_saved_and_read(name, tmp_path):
    params, apply = LIBRARIES[name]()
    fit = _trainer(apply)
    call = functools.partial(
        lottery.iterate, params, levels=1, rate=0.5, prunable=_weights, folder=tmp_path / "run"
    )
    made = list(call(fit))
    read = list(call(_never))
    for one, two in zip(made, read, strict=True):
        assert jax.tree.structure(two.trained) == jax.tree.structure(params)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert jnp.asarray(a).dtype == jnp.asarray(b).dtype
            np.testing.assert_array_equal(_host(a), _host(b))
    leaves = trees.flatten(made[1].trained)
    assert len(made[1].mask) == 2
    for path, keep in made[1].mask.items():
        assert int(keep.sum()) == keep.size - round(0.5 * keep.size)
        assert ((leaves[path] != 0) == keep).all()


def _host(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def _never(params, mask):
    raise AssertionError("nothing is left to train")


# --- criteria, warm-up, stacks


def test_a_criterion_gets_loss_and_examples():
    def sensitivity(evidence):
        gradients = masks.flatten(evidence.gradients(), evidence.mask.__contains__)
        kernels = masks.flatten(evidence.params, evidence.mask.__contains__)
        return {p: jnp.abs(gradients[p] * kernels[p]) for p in evidence.mask}

    def loss(params, examples):
        return sum(jnp.sum(jnp.square(params[n]["kernel"]) * examples[n]) for n in "abc")

    examples = {n: jnp.abs(jax.random.normal(KEY, SHAPES[f"{n}/kernel"])) for n in "abc"}
    given = {"criterion": Criterion(score=sensitivity, examples=1)}
    with pytest.raises(ValueError, match=r"sensitivity needs examples="):
        lottery.iterate(_params(), _moved, levels=1, rate=0.5, **given, loss=loss)
    given |= {"loss": loss, "examples": examples}
    dense, level = lottery.iterate(_params(), _moved, levels=1, rate=0.5, **given)
    for name in "abc":
        score = 2 * np.square(dense.trained[name]["kernel"]) * np.asarray(examples[name])
        cut = np.sort(score.ravel())[round(0.5 * score.size) - 1]
        np.testing.assert_array_equal(level.mask[f"{name}/kernel"], score > cut)


def test_criteria_get_what_the_arguments_give_and_the_others_are_refused():
    inputs = jax.random.normal(KEY, (4, SHAPES["b/kernel"][0]))
    call = functools.partial(lottery.iterate, _params(), _moved, levels=1, rate=0.5)
    call = functools.partial(call, prunable=lambda path: path == "b/kernel")
    with pytest.raises(ValueError, match=r"the criterion wanda needs apply="):
        call(criterion="wanda", examples=inputs)
    with pytest.raises(ValueError, match="movement, which iterate has no argument for"):
        call(criterion="movement")
    with pytest.raises(ValueError, match="apply must be a function, not 3"):
        call(criterion="wanda", examples=inputs, apply=3)
    given = {"apply": lambda params, inputs: inputs @ params["b"]["kernel"], "examples": inputs}
    norms = np.sqrt(np.square(inputs).sum(0))[:, None]
    for name, scored in (
        ("wanda", lambda start, end: np.abs(end) * norms),
        ("magnitude_increase", lambda start, end: np.abs(end) - np.abs(start)),
    ):
        dense, level = call(criterion=name, **(given if name == "wanda" else {}))
        score = scored(
            np.asarray(_params()["b"]["kernel"]), np.asarray(dense.trained["b"]["kernel"])
        )
        cut = np.sort(score.ravel())[round(0.5 * score.size) - 1]
        np.testing.assert_array_equal(level.mask["b/kernel"], score > cut)


def test_random_masks_follow_the_key():
    call = functools.partial(lottery.iterate, _params(), _moved, levels=2, rate=0.5)
    one, two, other = (
        [level.mask["b/kernel"] for level in call(criterion="random", key=jax.random.key(seed))]
        for seed in (0, 0, 1)
    )
    (_, magnitude, _) = call(criterion=CRITERIA["magnitude"])
    assert all((a == b).all() for a, b in zip(one, two, strict=True))
    assert (one[1] != other[1]).any()
    assert (one[1] != magnitude.mask["b/kernel"]).any()


def test_tickets_rewind_to_what_the_warm_up_makes(tmp_path):
    calls = []

    def warm_up(params):
        calls.append(1)
        return jax.tree.map(lambda leaf: leaf + 1, params)

    call = functools.partial(
        lottery.iterate, _params(), levels=1, rate=0.5, warm_up=warm_up, folder=tmp_path
    )
    for found in (list(call(_moved)), list(call(_never))):
        for level in found:
            expected = masks.apply(level.mask, warm_up(_params()))
            for a, b in zip(jax.tree.leaves(level.rewound), jax.tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(a, b)
    assert len(calls) == 1 + 4  # ours are four
    with pytest.raises(ValueError, match="warm_up is True there, False here"):
        lottery.iterate(_params(), _moved, levels=1, rate=0.5, folder=tmp_path)


def test_slices_of_a_stack_are_pruned_alike():
    levels = lottery.iterate(_params(), _moved, levels=2, rate=0.25, stacked={"c": 1})
    counts = [level.mask["c/kernel"].sum((1, 2)).tolist() for level in levels]
    assert counts == [[12, 12], [9, 9], [7, 7]]


# --- folders


def test_a_loop_that_broke_off_continues_with_the_same_bits(tmp_path):
    call = functools.partial(lottery.iterate, _params(), rate={"*": 0.3})
    whole = list(call(_moved, levels=4))
    broken = Counted(fails_at=2)
    with pytest.raises(RuntimeError, match="power cut"):
        list(call(broken, levels=3, folder=tmp_path))
    second, third = Counted(), Counted()
    assert [level.number for level in call(second, levels=3, folder=tmp_path)] == [0, 1, 2, 3]
    assert second.calls == [_kept(whole[2].mask), _kept(whole[3].mask)]
    levels = list(call(third, levels=4, folder=str(tmp_path)))
    assert third.calls == [_kept(whole[4].mask)]
    assert [level.number for level in call(_never, levels=1, folder=tmp_path)] == [0, 1]
    for a, b in zip(jax.tree.leaves(levels), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    loaded = tickets.load(tmp_path, 2)
    np.testing.assert_array_equal(loaded.trained["b/kernel"], whole[2].trained["b"]["kernel"])
    np.testing.assert_array_equal(loaded.mask["b/kernel"], whole[2].mask["b/kernel"])
    with pytest.raises(UserError, match="names its network: give model="):
        tickets.compile(loaded)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"rate": 0.3}, r"rate.\* is 0.5 there, 0.3 here"),
        ({"rate": {"*": 0.5, "b": 0.2}}, "rate.b is None there, 0.2 here"),
        ({"scope": "global"}, "scope is layerwise there, global here"),
        ({"criterion": "random"}, "criterion is magnitude there, random here"),
        ({"criterion": Criterion(score=lambda e: {})}, r"there, tests\..*lambda> here"),
        ({"rewind": False}, "rewind is True there, False here"),
        ({"prunable": lambda p: "kernel" in p and p[0] != "c"}, r"c/kernel is \[2, 4, 3\] there"),
        ({"stacked": {"c": 1}}, "stacked.c is None there, 1 here"),
        ({"key": jax.random.key(3)}, "key is"),
        ({"examples": jnp.ones(3)}, "examples is"),
    ],
)
def test_other_arguments_are_refused(begun, other, message):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    given = {"levels": 0, "rate": 0.5, "folder": begun, **other}
    with pytest.raises(ValueError, match=message) as caught:
        lottery.iterate(_params(), _never, **given)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


def test_other_parameters_are_refused(begun):
    params = _params()
    params["a"]["bias"] = params["a"]["bias"].at[0].set(1e-3)
    with pytest.raises(ValueError, match=r"params is \w{32} there"):
        lottery.iterate(params, _never, levels=0, rate=0.5, folder=begun)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with levels 0 and 1."""
    folder = tmp_path_factory.mktemp("begun")
    list(lottery.iterate(_params(), _moved, levels=1, rate=0.5, folder=folder))
    return folder


def _continue(folder, fit=_moved):
    return list(lottery.iterate(_params(), fit, levels=2, rate=0.5, folder=folder))


def test_a_damaged_level_is_refused_and_made_again_when_it_is_removed(tmp_path):
    whole = _continue(tmp_path)
    unit = tmp_path / "checkpoints" / "levels" / "01" / "ticket"
    data = max(
        (p for p in (unit / "final").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(checkpoint.DamagedError, match=r"is damaged: .*; remove .*01.ticket"):
        _continue(tmp_path, _never)
    for inside in sorted(unit.rglob("*"), reverse=True):
        inside.rmdir() if inside.is_dir() else inside.unlink()
    unit.rmdir()
    fit = Counted()
    again = _continue(tmp_path, fit)
    assert fit.calls == [_kept(whole[1].mask)]
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    for inside in sorted(unit.rglob("*"), reverse=True):
        inside.rmdir() if inside.is_dir() else inside.unlink()
    with pytest.raises(ValueError, match=r"02.ticket was made of another level"):
        _continue(tmp_path, lambda params, mask: _moved(_moved(params, mask), mask))


def test_a_folder_of_other_files_or_a_file_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no levels of iterate"):
        _continue(tmp_path)
    with pytest.raises(ValueError, match=r"mine.txt is a file, not a folder"):
        _continue(tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="folder must be a path, not 3"):
        _continue(3)
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "iterate.json").write_text("[]")
    with pytest.raises(ValueError, match=r"iterate.json is not readable"):
        _continue(tmp_path)


def test_the_folder_is_locked_while_a_level_is_trained_and_not_in_between(tmp_path):
    def fit(params, mask):
        with pytest.raises(UserError, match="is in use"), locked(tmp_path):
            pass
        return _moved(params, mask)

    for _ in lottery.iterate(_params(), fit, levels=1, rate=0.5, folder=tmp_path):
        with locked(tmp_path):
            pass
    assert json.loads((tmp_path / "iterate.json").read_text())["arguments"]["rate"] == {"*": 0.5}


# --- what is refused


def _broken(change):
    def fit(params, mask):
        trained = _moved(params, mask)
        return change(trained, mask) if float(masks.density(mask)) < 1 else trained

    return fit


def _with(path, value):
    def change(trained, mask):
        del mask
        return trees.map_with_path(lambda p, leaf: value(leaf) if p == path else leaf, trained)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: jax.tree.map(lambda x: x + 1, t), r"level 1, returned 9 pruned .*'a/kernel'"),
        (_with("b/kernel", lambda x: jnp.full_like(x, jnp.nan)), r"30 entries of 'b/kernel' that"),
        (_with("a/bias", lambda x: x.at[0].set(jnp.inf)), "1 entries of 'a/bias' that are not fin"),
        (_with("a/bias", lambda x: x[:1]), r"'a/bias' as float32\[1\], it was float32\[2\]"),
        (_with("a/bias", lambda x: x.astype(jnp.bfloat16)), r"'a/bias' as bfloat16\[2\], it was"),
        (lambda t, m: {k: t[k] for k in "abc"}, "returned another tree: it differs in steps"),
        (lambda t, m: flax.core.freeze(t), "another tree: FrozenDict for dict"),
        (lambda t, m: None, r"another tree: it differs in .*a/bias, a/kernel, b/bias, .*, …"),
        (lambda t, m: {**t, "steps": 3}, "'steps' is int, not an array"),
    ],
)
def test_what_is_not_the_ticket_is_refused(change, message):
    levels = lottery.iterate(_params(), _broken(change), levels=1, rate=0.5)
    next(levels)
    with pytest.raises(ValueError, match=message) as caught:
        next(levels)
    assert "\n" not in str(caught.value)


def test_constants_that_never_were_finite_may_stay():
    params = {**_params(), "border": jnp.float32(-jnp.inf)}
    list(lottery.iterate(params, _moved, levels=1, rate=0.5))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"levels": -1}, "levels=-1 must be an integer, at least 0"),
        ({"levels": 2.0}, r"levels=2.0 must be an integer"),
        ({"levels": True}, "levels=True must be an integer"),
        (
            {"levels": 40},
            r"level \d+ would .*: set levels=\d+ or fewer, or a (larger|smaller) rate",
        ),
        ({"rate": 1.5}, r"rate 1.5 of '\*' is outside \[0, 1\]"),
        ({"rate": float("nan")}, "rate nan"),
        ({"rate": "0.2"}, r"the rate '0.2' of '\*' must be a number"),
        ({"rate": {3: 0.2}}, "the rate's pattern 3 must be a text"),
        ({"rate": {"a": 0.2}}, "no rate for layer 'b'"),
        ({"rate": {"*": 0.2, "d": 0.1}}, "'d' matches none of a, b, c"),
        ({"rate": 0}, "every rate is 0; set levels=0 for the dense network alone"),
        ({"rate": 1}, "would empty 'a' .* set levels=0 or fewer, or a smaller rate"),
        ({"scope": "globl"}, "unknown scope 'globl'; did you mean 'global'"),
        ({"scope": ["global"]}, "unknown scope"),
        ({"criterion": "magnitud"}, "unknown criterion 'magnitud'; did you mean 'magnitude'"),
        ({"criterion": criteria.magnitude}, "unknown criterion <function magnitude"),
        ({"prunable": lambda path: False}, "no leaf is prunable"),
        ({"prunable": "kernel"}, "prunable must be a function, not 'kernel'"),
        ({"prunable": lambda path: path == "steps"}, "'steps' is int32 and cannot be pruned"),
        ({"params": {}}, "no leaf is prunable"),
        ({"params": {"a": {"kernel": 1.0}}}, "params: 'a/kernel' is float, not an array"),
        ({"params": {"a": {"kernel": jnp.array([1, jnp.nan])}}}, "1 entries of 'a/kernel' are not"),
        (
            {"params": {"a": {"b/kernel": X}, "a/b": {"kernel": X}}},
            "two leaves of the tree have the path",
        ),
        ({"fit": None}, "fit must be a function, not None"),
        ({"warm_up": 3}, "warm_up must be a function, not 3"),
        ({"loss": 3}, "loss must be a function, not 3"),
        ({"rewind": 100}, "rewind must be True or False, not 100"),
        ({"key": 3}, "a key is made by jax.random.key"),
        ({"examples": [1, 2]}, "examples: '0' is int, not an array"),
        ({"stacked": {"c": 4}}, "the leaves of 'c' do not share 4 axes"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(given, message, tmp_path):
    given = {"params": _params(), "fit": _never, "levels": 1, "rate": 0.5, **given}
    with pytest.raises(ValueError, match=message) as caught:
        lottery.iterate(**given, folder=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_training_may_return_one_numpy_buffer_again_and_again():
    params = {"a": {"kernel": np.linspace(1, 2, 8, dtype=np.float32), "bias": np.zeros(8, "f4")}}
    buffer = np.zeros(8, np.float32)

    def fit(params, mask):
        buffer[:] += 1
        return {"a": {"kernel": params["a"]["kernel"], "bias": buffer}}

    dense, level = lottery.iterate(params, fit, levels=1, rate=0.5)
    assert dense.trained["a"]["bias"].tolist() == [1] * 8
    assert level.trained["a"]["bias"].tolist() == [2] * 8


def test_what_the_loop_does_to_a_level_changes_no_other(tmp_path):
    plain = list(lottery.iterate(_params(), _moved, levels=1, rate=0.5))
    changed = []
    for level in lottery.iterate(_params(), _moved, levels=1, rate=0.5, folder=tmp_path):
        changed.append(level.mask["a/kernel"])
        level.trained["a"]["kernel"] = level.rewound["b"]["kernel"] = None
        level.mask.clear()
    assert (changed[1] == plain[1].mask["a/kernel"]).all()
    assert len(list(lottery.iterate(_params(), _never, levels=1, rate=0.5, folder=tmp_path))) == 2


def test_scores_of_other_paths_are_refused():
    criterion = Criterion(score=lambda evidence: {"a/kernel": jnp.zeros((3, 6))})
    levels = lottery.iterate(_params(), _moved, levels=1, rate=0.5, criterion=criterion)
    next(levels)
    with pytest.raises(ValueError, match=r"differ in the paths \['b/kernel', 'c/kernel'\]"):
        next(levels)


def test_a_layer_that_becomes_empty_is_told_of():
    params = _params()
    params["a"]["kernel"] = params["a"]["kernel"] * 1e-6
    fit = lambda params, mask: masks.apply(mask, params)  # noqa: E731
    levels = lottery.iterate(params, fit, levels=1, rate=0.5, scope="global")
    next(levels)
    with pytest.warns(UserWarning, match="level 1: nothing is left of a$"):
        next(levels)
