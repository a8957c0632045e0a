"""The levels of lottery tickets as a generator, around any training of any tree of parameters.

Read `iterate` first.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from groundwork import keys
from groundwork.numerics import checks
from groundwork.trees import Params
from lottery.own_loop import arguments, trees
from lottery.own_loop import folder as folders
from lottery.tickets import unit_name
from pruning import masks, rounds
from pruning.criteria import Criterion, Evidence
from pruning.criteria.evidence import Apply, Loss, OutputLoss
from pruning.masks import Mask
from pruning.schedule import Plan
from pruning.select import Rate, Scope

Fit = Callable[[Params, Mask], Params]
Triple = tuple[Mask, Params, Params]  # mask, rewound, trained


class Level(NamedTuple):
    """A ticket and what was trained of it. Level 0 is dense; level k has been pruned k times."""

    number: int
    density: float  # kept / prunable, in [0, 1]
    mask: Mask  # path → bool; True = kept
    rewound: Params  # what `fit` was given: pruned weights are zero
    trained: Params  # what `fit` returned


def iterate(
    params: Params,
    fit: Fit,
    *,
    levels: int,
    rate: Rate = 0.2,
    scope: Scope = "layerwise",
    criterion: str | Criterion = "magnitude",
    loss: Loss | None = None,
    examples: Any = None,
    apply: Apply | None = None,
    output_loss: OutputLoss | None = None,
    key: jax.Array | None = None,
    prunable: Callable[[str], bool] | None = None,
    stacked: Mapping[str, int] | None = None,
    rewind: bool = True,
    warm_up: Callable[[Params], Params] | None = None,
    folder: str | Path | None = None,
) -> Iterator[Level]:
    """Trains, prunes and rewinds, level by level, with a training of your own.

    Arguments are checked, and `folder` is opened, at the call; each level is trained when the loop
    asks for it. Counts and masks are those of `python -m lottery.main`. For one-shot pruning to
    density d, take `levels=1, rate=1 − d`.

    What tickets are rewound to is `params` (the initialisation: Frankle & Carbin,
    arXiv:1803.03635), or what `warm_up` makes of them (a later step of the dense training: Frankle
    et al., arXiv:1903.01611 and arXiv:1912.05671; `fit` then trains from that step on, at level 0,
    too). With `rewind=False`, each level goes on from the weights that the level before has
    trained: Renda et al., arXiv:2003.02389, call that fine-tuning if `fit` trains on at the last,
    low learning rate, and learning rate rewinding if it repeats the schedule. All leaves are
    rewound, batch statistics too; the optimiser's state is `fit`'s own. A warning tells of layers
    that have become empty.

    Args:
      params: any pytree of arrays: parameters, or parameters with other collections beside them.
      fit: (ticket, mask) → the trained ticket, a tree of the same structure, shapes and dtypes. The
        ticket is a copy that `fit` may donate. Pruned weights must be zero in what it returns, so
        wrap the optimiser by `lottery.masks.enforce`.
      levels: the last level; `fit` is called `levels + 1` times.
      rate: the share of the remaining weights that each level removes; see `masks.prune`.
      scope: `layerwise` or `global`; see `masks.prune`.
      criterion: a name of `criteria.CRITERIA`, or a `Criterion`. It scores what was trained; what
        it compares with, as `magnitude_increase` does, is `params`. `movement` is refused.
      loss: (a tree like `params`, examples) → the mean loss, for criteria that need it.
      examples: the examples that criteria look at, in any pytree of arrays.
      apply: (a tree like `params`, examples) → outputs, for `obd`, `synflow`, `wanda` and `obs`.
      output_loss: (outputs, examples) → the mean loss, for `obd`. `grasp` divides the outputs by
        its temperature if it is given with `apply`.
      key: for criteria that draw; by default `jax.random.key(0)`.
      prunable: path → bool, for paths such as `fc1/kernel`; by default the leaves named `kernel`.
      stacked: patterns of layers → how many leading axes stack them; see `masks.prune`.
      rewind: whether each level starts from the weights before the training, at the rewind step; if
        not, from those that the level before has trained.
      warm_up: `params` → the parameters at the rewind step; it is called once.
      folder: where each level is saved when it is done, verified by SHA-256. With the same
        arguments, its levels are not trained again, and more levels extend it. A level that was
        interrupted is trained again, so results are the same, bit for bit, if `fit` is
        deterministic. Other arguments are refused, but what `fit`, `warm_up`, `loss` or a criterion
        of your own compute cannot be compared. `lottery.tickets.load(folder, level)` reads a level
        as flat dicts, path → array, without a replicate axis.

    Returns:
      An iterator over the levels, from 0 to the last.

    Raises:
      ValueError: an argument is wrong, a level cannot be reached, or the folder holds other levels;
        and, from the loop: `fit` returns another tree, values that are not finite, or pruned
        weights that are not zero.
      UserError: another process works in the folder, or one of its levels is damaged.

    Example:
        >>> import lottery
        >>> params = {"kernel": jnp.array([1.0, 2.0, 3.0, 4.0])}
        >>> fit = lambda ticket, mask: {"kernel": ticket["kernel"] * 10}  # in place of a training
        >>> for level in lottery.iterate(params, fit, levels=2, rate=0.5):
        ...     print(level.density, level.rewound["kernel"], level.trained["kernel"])
        1.0 [1. 2. 3. 4.] [10. 20. 30. 40.]
        0.5 [0. 0. 3. 4.] [ 0.  0. 30. 40.]
        0.25 [0. 0. 0. 4.] [ 0.  0.  0. 40.]
    """
    arguments.check_functions(fit, prunable, warm_up, rewind)
    seen = {"loss": loss, "examples": examples, "apply": apply, "output_loss": output_loss}
    scorer = arguments.chosen(criterion, seen)
    params = trees.arrays("params", params)
    seen["examples"] = examples = trees.arrays("examples", examples)
    key = checks.key(jax.random.key(0) if key is None else key)
    dense = trees.dense(params, prunable)
    plan = arguments.plan(dense, rate, scope, levels, stacked)
    keep: folders.Keep = _made
    if folder is not None:
        rates = rate if isinstance(rate, Mapping) else {"*": rate}
        identity = {
            "rate": {pattern: float(share) for pattern, share in rates.items()},
            "scope": scope,
            "criterion": arguments.name_of(scorer),
            "prunable": {path: list(leaf.shape) for path, leaf in dense.items()},
            "stacked": {pattern: int(axes) for pattern, axes in (stacked or {}).items()},
            "rewind": rewind,
            "warm_up": warm_up is not None,
            "params": trees.digest(params),
            "examples": trees.digest(examples),
            "key": trees.digest(key),
        }
        keep = folders.opened(folder, identity)
    prune = _make_prune(scorer, plan, {**seen, "initial": params}, key)
    loop = _Loop(fit=fit, plan=plan, prune=prune, rewind=rewind, keep=keep)
    return _levels(loop, params, dense, warm_up)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Loop:
    """What is the same at all levels.

    Attributes:
      fit: the user's.
      plan: the number of weights that each level keeps.
      prune: mask, trained parameters, level → the level's mask.
      rewind: whether each level starts from the weights before the training, at the rewind step; if
        not, from those that the level before has trained.
      keep: name, function, trees before → what the function makes, or has made (see `folder`).
    """

    fit: Fit
    plan: Plan
    prune: Callable[[Mask, Params, int], Mask]
    rewind: bool
    keep: folders.Keep


def _levels(
    loop: _Loop, params: Params, dense: Mask, warm_up: Callable[[Params], Params] | None
) -> Iterator[Level]:
    start = params
    if warm_up is not None:
        make = functools.partial(_warmed_up, warm_up, params)
        (start,) = loop.keep("start", make, (params,))
    mask, trained = dense, start
    for number, counts in enumerate(loop.plan.kept):
        train = functools.partial(_train, loop, number, start, mask, trained)
        made = loop.keep(unit_name(number, "ticket"), train, (mask, start, trained))
        mask, _, trained = made
        density = sum(counts.values()) / masks.total(dense)
        mine = jax.tree.map(lambda leaf: leaf, made)  # the user may change the dicts of a level
        yield Level(number, density, *mine)


def _made(name: str, make: Callable[[], tuple[Any, ...]], before: Any) -> tuple[Any, ...]:
    """Makes what is kept nowhere."""
    del name, before
    return make()


def _warmed_up(warm_up: Callable[[Params], Params], params: Params) -> tuple[Params]:
    """Returns the parameters at the rewind step."""
    return (trees.returned("warm_up", warm_up(trees.copied(params)), params),)


def _train(loop: _Loop, number: int, start: Params, mask: Mask, trained: Params) -> Triple:
    """Prunes what the level before has trained, and trains the level."""
    if number:
        mask = loop.prune(mask, trained, number)
        empty = [layer for layer, count in masks.kept(mask).items() if not count]
        if empty:
            warnings.warn(f"level {number}: nothing is left of {', '.join(empty)}", stacklevel=2)
    ticket = masks.apply(mask, start if loop.rewind else trained)
    what = f"fit, at level {number},"
    result = trees.returned(what, loop.fit(trees.copied(ticket), dict(mask)), ticket)
    trees.check_pruned(what, result, mask)
    return mask, ticket, masks.apply(mask, result)  # −0 becomes 0


def _make_prune(
    criterion: Criterion, plan: Plan, seen: Mapping[str, Any], key: jax.Array
) -> Callable[[Mask, Params, int], Mask]:
    """Returns (mask, trained parameters, level) → the level's mask, compiled once for all."""

    functions = {name: seen[name] for name in arguments.FUNCTIONS}
    arrays = {name: given for name, given in seen.items() if name not in functions}

    @jax.jit
    def prune(mask: Mask, params: Params, key: jax.Array, counts: Any, arrays: Any) -> Any:
        evidence = Evidence(params=params, mask=mask, key=key, **functions, **arrays)
        return rounds.prune(criterion, evidence, counts, plan.paths, plan.slices)

    def to_level(mask: Mask, params: Params, number: int) -> Mask:
        drawn = jax.random.fold_in(keys.stream(key, "criterion"), number)
        counts = {name: np.int32(count) for name, count in plan.of_slices(number).items()}
        new, missing = prune(mask, params, drawn, counts, arrays)
        rounds.check(missing)
        return new

    return to_level
