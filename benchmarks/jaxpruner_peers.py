"""python -m benchmarks.jaxpruner_peers --source=FOLDER: our masks beside JaxPruner's.

FOLDER is a checkout of https://github.com/google-research/jaxpruner (commit f133ee5), which is on
no package index. It needs `chex`, and `jax.tree_map`, which JAX no longer has and which is put
back while this runs. From the same parameters and gradients of LeNet-300-100, at density 0.1 and
in float32, both libraries choose masks; the table counts the weights in which these differ.
"""

import argparse
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/…`

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import setting
from groundwork import terminal, trees
from groundwork.report import tables
from pruning import densities, dynamic, masks, select
from pruning.criteria.weights import magnitude
from pruning.dynamic import regrowth
from pruning.masks import Mask

SIZES = {"fc1": (784, 300), "fc2": (300, 100), "output": (100, 10)}
DENSITY, EVERY, END, FRACTION, STEPS = 0.1, 5, 40, 0.3, 36
Row = list[str]


def loaded(source: str) -> Any:
    """Returns the package `jaxpruner` of a checkout, for today's JAX."""
    if importlib.util.find_spec("chex") is None:
        sys.exit("chex is missing: pip install -r requirements-benchmarks.txt")
    if not (Path(source) / "jaxpruner").is_dir():
        sys.exit(f"--source={source} is no checkout of github.com/google-research/jaxpruner")
    jax.tree_map = jax.tree.map  # type: ignore[attr-defined]
    sys.path.insert(0, source)
    return importlib.import_module("jaxpruner")


def drawn(seed: int) -> Any:
    """Returns a tree of kernels of LeNet-300-100, of normal numbers."""
    rng = np.random.default_rng(seed)
    return {
        layer: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)}
        for layer, shape in SIZES.items()
    }


def flat(tree: Any) -> Mask:
    """Returns a mask of JaxPruner as ours: path → bool."""
    return {path: leaf != 0 for path, leaf in trees.flatten(tree).items()}


def differing(ours: Mask, theirs: Mask) -> int:
    """Returns the number of weights in which two masks differ."""
    return sum(int(jnp.sum(ours[path] != theirs[path])) for path in ours)


def pruners(library: Any) -> list[Row]:
    """Returns rows of what is pruned at once: by magnitude, and by |weight × gradient|."""
    params, gradients = drawn(0), drawn(1)
    dense = masks.ones(params)
    scores = {
        "magnitude": magnitude(params, dense),
        "saliency |g·w|": trees.flatten(
            jax.tree.map(lambda p, g: jnp.abs(p * g), params, gradients)
        ),
    }
    theirs = {"magnitude": ("MagnitudePruning", "GlobalMagnitudePruning")}
    theirs["saliency |g·w|"] = ("SaliencyPruning", "GlobalSaliencyPruning")
    uniform = functools.partial(_distribution("uniform"), sparsity=1 - DENSITY)
    rows = []
    for name, score in scores.items():
        layerwise, together = (getattr(library, one) for one in theirs[name])
        made = {
            "layerwise": layerwise(sparsity_distribution_fn=uniform),
            "global": together(sparsity=1 - DENSITY, use_normalization=False),
            "global, normalised by layer": together(sparsity=1 - DENSITY),
        }
        for scope, updater in made.items():
            mask = flat(updater.instant_sparsify(params, gradients)[1])
            ranked = score
            if scope.endswith("layer"):  # the scores are divided by the norm of their layer
                ranked = {p: s / (jnp.linalg.norm(s) + 1e-8) for p, s in score.items()}
            ours = select.prune(dense, ranked, 1 - DENSITY, scope.split(",")[0])
            rows.append(_row(f"{name}, {scope}", [(ours, mask)]))
    return rows


def distributions(library: Any) -> Row:
    """Returns a row: Erdős–Rényi-kernel."""
    del library
    params = drawn(0)
    theirs = trees.flatten(_distribution("erk")(params, sparsity=1 - DENSITY))
    ours = densities.erdos_renyi_kernel(masks.ones(params), DENSITY)
    off = max(abs(1 - theirs[path] - ours[path]) for path in ours)
    counts = densities.counts(masks.ones(params), ours)
    size = masks.total(masks.ones(params))
    rounded = sum(round(masks.ones(params)[p].size * (1 - s)) for p, s in theirs.items())
    note = f"densities differ by at most {off:.1e}; {sum(counts.values())} and {rounded} of {size}"
    return ["Erdős–Rényi-kernel", "", "", note]


def sparse_trainers(library: Any) -> list[Row]:
    """Returns rows of SET and RigL, over all changes of a training by given gradients."""
    schedule = library.sparsity_schedules.PeriodicSchedule(EVERY, 0, END - 1)
    erk = functools.partial(_distribution("erk"), sparsity=1 - DENSITY)
    share = optax.cosine_decay_schedule(FRACTION, END)
    rows = []
    for name in ("SET", "RigL"):
        updater = getattr(library, name)(
            scheduler=schedule, sparsity_distribution_fn=erk, drop_fraction_fn=share
        )
        for apart, note in ((False, "as published"), (True, "what goes grows last")):
            pairs = list(_changes(name, updater, apart))
            rows.append(_row(f"{name}, {note}", pairs))
    return rows


def _changes(name: str, updater: Any, apart: bool) -> Any:
    """Gives pairs of masks, ours and theirs, after each change from the same state of theirs.

    With `apart`, the scores of kept weights are zero, so that none of them is grown again.
    """
    params, optimizer = drawn(2), updater.wrap_optax(optax.adam(1e-2))
    state = optimizer.init(params)
    params = updater.post_gradient_update(params, state)
    random = updater._get_grow_scores
    if apart and name == "SET":
        updater._get_grow_scores = lambda state, *rest: jax.tree.map(
            lambda score, mask: score * (1 - mask), random(state, *rest), state.masks
        )

    @jax.jit
    def stepped(params: Any, state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, state = optimizer.update(gradients, state, params)
        return updater.post_gradient_update(optax.apply_updates(params, updates), state), state

    ours = jax.jit(functools.partial(_ours, name, updater))
    for step in range(STEPS):
        gradients = jax.tree.map(lambda p, i=step: jnp.sin(100 * p + i) + 0.1 * p, drawn(3 + step))
        if apart and name == "RigL":
            gradients = jax.tree.map(lambda g, m: g * (1 - m), gradients, state.masks)
        before = params, state
        params, state = stepped(params, state, gradients)
        if step % EVERY == 0:
            yield ours(*before, gradients, jnp.int32(step)), flat(state.masks)


def _ours(
    name: str, updater: Any, params: Any, state: Any, gradients: Any, step: jax.Array
) -> Mask:
    """Returns our mask after a change from a state of JaxPruner."""
    mask = flat(state.masks)
    if name == "SET":  # with the random numbers of JaxPruner
        growth = trees.flatten(updater._get_grow_scores(state, params, gradients))
        return regrowth.regrown(mask, params, growth, regrowth.cosine(FRACTION, step, END))
    optimizer = dynamic.rigl(optax.adam(1e-2), mask, end=END, every=EVERY, fraction=FRACTION)
    return masks.mask_of(optimizer.update(gradients, optimizer.init(params), params, step=step)[1])


def _distribution(name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module("jaxpruner.sparsity_distributions"), name)


def _row(name: str, pairs: list[tuple[Mask, Mask]]) -> Row:
    kept = [sum(int(jnp.sum(leaf)) for leaf in ours.values()) for ours, _ in pairs]
    off = [differing(ours, theirs) for ours, theirs in pairs]
    counts = [
        sum(int(jnp.sum(leaf)) for leaf in theirs.values()) - kept
        for (_, theirs), kept in zip(pairs, kept, strict=True)
    ]
    said = "the same" if not any(off) else ", ".join(map(str, off))
    more = "" if not any(counts) else f"JaxPruner keeps {max(counts, key=abs):+d}"
    return [name, str(kept[0]), said, more]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True, help="folder of a checkout of JaxPruner")
    flags = parser.parse_args()
    library = loaded(flags.source)
    rows = [*pruners(library), distributions(library), *sparse_trainers(library)]
    header = ["", "kept", "weights in which the masks differ", ""]
    tables.show("Masks for LeNet-300-100 at density 0.1, ours beside JaxPruner's", (header, rows))
    terminal.say(f"machine: {setting.machine()}")


if __name__ == "__main__":
    main()
