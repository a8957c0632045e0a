"""The stage `prune`: at each level, the weights with the lowest scores go, and the rest train."""

import dataclasses
import functools
import glob
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import numpy as np

from compress import form, share
from compress.fit import Recipe
from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages import quantize
from compress.stages.stage import Stage, Step, train
from groundwork import architectures, trees
from groundwork.data import dataset as data_lib
from groundwork.devices import mesh as mesh_lib
from groundwork.errors import UserError, about, unknown
from groundwork.train import loss_spec, networks
from groundwork.typed import Levels
from pruning import masks, pruner, rates
from pruning import section as pruning_section
from pruning.criteria import CRITERIA, OF_TRAINING
from pruning.masks import Mask
from pruning.schedule import Plan

INSTEAD = "leave out the stage prune"


@dataclasses.dataclass(frozen=True)
class PruneSpec(pruning_section.PruneSpec):
    """`prune`: as for `lottery`, to several levels.

    Attributes:
      levels: the pipeline continues from these; all levels up to the last are trained.
      rewind: `start` rewinds to the initial values and trains for as many steps as the original;
        `none` continues from the current values, for the steps of fine-tuning.
    """

    levels: Annotated[tuple[Levels, ...], "integers from 1, such as (8, 12)"]
    rewind: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(CRITERIA[self.criterion].needs) & set(OF_TRAINING):
            raise UserError(
                f"prune.criterion={self.criterion} looks at the training before, which compress "
                "does not keep: choose another, such as magnitude, or use lottery"
            )
        levels = self.levels
        if not levels or min(levels) < 1 or len(set(levels)) < len(levels):
            raise UserError(f"prune.levels={levels!r} must be integers from 1, such as (8, 12)")
        if self.rewind not in ("start", "none"):
            raise unknown("prune.rewind", self.rewind, ("start", "none"))


def steps(section: PruneSpec) -> list[Step]:
    """Returns one step per level, each made of the level before."""
    levels = range(1, max(section.levels) + 1)
    names = ["", *(f"prune-{level:02d}" for level in levels)]
    return [
        Step(names[level], level, names[level - 1], level in section.levels) for level in levels
    ]


def place(spec: CompressSpec) -> None:
    """Refuses signs for pruned weights, and rewinding if there are no initial values."""
    quantize.check_signs(spec, spec.after("prune"))
    if spec.sections["prune"].rewind == "start" and (reason := _no_start(spec)):
        raise UserError(f"prune.rewind='start' has no start {reason}: set prune.rewind='none'")


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses levels that cannot be reached."""
    section = spec.sections["prune"]
    if shaped.shapes is not None:
        leaves = section.leaves(shaped.shapes["params"])
        stacked = _stacks(shaped.form, shaped.dataset.example, leaves)
        section.plan(leaves, max(section.levels), "prune.levels of ", INSTEAD, stacked)
        loss, network = loss_spec.build(spec.loss, shaped.dataset.target), form.network(shaped.form)
        with about("prune.criterion"):
            networks.check_examples("prune.examples", section.examples, shaped.dataset)
            pruner.check(
                CRITERIA[section.criterion],
                leaves,
                shaped.shapes,
                **networks.seen(shaped.dataset, network, section.seen, loss),
            )
    elif section.seen:
        data_lib.first_examples(shaped.dataset, 1)  # refuses examples that are not in memory
    return shaped


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Prunes one more level, and trains from the initial values or from the current ones."""
    context, spec = pipeline.context, pipeline.spec
    section: PruneSpec = spec.sections["prune"]
    prunable = section.leaves(before.variables["params"])
    mask: Any = {p: np.ones(leaf.shape, bool) for p, leaf in prunable.items()} | before.mask
    stacked = _stacks(before.form, context.dataset.example, prunable)
    left = {path: mask[path] for path in prunable}
    plan, counts = remaining(section, left, int(node.setting), stacked)
    groups = tuple((name, paths, plan.slices[name]) for name, paths in plan.paths.items())
    prune = _pruner(pipeline, spec.as_original(before.form), groups)
    placed = context.put((mask, before.variables, counts))
    with about("prune.criterion"):
        mask = mesh_lib.fetch(prune(context.roots, *placed, int(node.setting)))
    if section.rewind == "none":
        recipe, start = spec.fine_tuned(before.form), before.variables
    else:
        start = networks.initial(context, before.form.model)
        start = {**start, "params": share.tie(start["params"], before.form.groups)}
        recipe = spec.as_original(before.form)
    variables = train(pipeline, node, recipe, (start, mask), before)
    return before._replace(variables=variables, mask=mask)


def remaining(
    section: PruneSpec,
    mask: Mapping[str, np.ndarray],
    level: int,
    stacked: Mapping[str, int] | None = None,
) -> tuple[Plan, dict[str, np.ndarray]]:
    """Returns which leaves are ranked together, and how many weights each slice of them keeps, [R].

    `geometric` counts from the weights that are left, which are fewer than at its previous level if
    the network was pruned before; `linear` counts from all weights.

    Args:
      section: of the config.
      mask: path → [R, …], of all prunable leaves, before the level.
      level: from 1.
      stacked: see `select.prune`.

    Raises:
      UserError: the level cannot be reached, or the slices of a stack have been pruned unequally.
    """
    stacked = (stacked or {}) if section.scope == "layerwise" else {}
    plans: list[Plan] = []
    for r in range(len(next(iter(mask.values())))):
        if section.schedule == "linear":
            leaves, levels = {path: leaf[r] for path, leaf in mask.items()}, level
        else:
            leaves, levels = {p: _left(p, leaf[r], stacked) for p, leaf in mask.items()}, 1
        plans.append(section.plan(leaves, levels, "prune.levels of ", INSTEAD, stacked))
    by_slice = [plan.of_slices(len(plan.kept) - 1) for plan in plans]
    counts = {name: np.array([each[name] for each in by_slice], np.int32) for name in by_slice[0]}
    return plans[0], counts


def _left(path: str, mask: np.ndarray, stacked: Mapping[str, int]) -> np.ndarray:
    """Returns an array of the shape of what is left of a leaf: a vector, after any stack axes."""
    axes = stacked.get(glob.escape(masks.layer_of(path)), 0)
    stack = mask.shape[:axes]
    counts = np.unique(mask.reshape(*stack, -1).sum(-1))
    if len(counts) > 1:
        raise UserError(
            f"the layers that {path} stacks keep {counts.tolist()} weights: prune with "
            "prune.scope='global', or a source that keeps as many of each"
        )
    return np.ones((*stack, counts[0]), bool)


def _stacks(form: Form, example: Any, leaves: Iterable[str]) -> dict[str, int]:
    """Returns the stacks of layers of a network that is not factorised; see `select.prune`."""
    if form.plan:  # no stack is factorised, but its network is not the module's own
        leaves = [path for path in leaves if masks.layer_of(path) not in form.plan]
    shapes = architectures.shapes(form.model, example)
    return rates.stacks(form.model, shapes, trees.example(example), leaves)


def _no_start(spec: CompressSpec) -> str:
    """Returns the reason why there are no initial values to rewind to; empty if there are."""
    before, distill = spec.before("prune"), spec.sections["distill"]
    if "distill" in before and distill.init != "fresh":
        return "after distill with another init than 'fresh'"
    if "factorize" in before:
        return "after factorize"
    if spec.source.path and "distill" not in before:
        return "with source.path"
    return ""


@functools.lru_cache(maxsize=1)  # it keeps the pipeline alive
def _pruner(
    pipeline: Pipeline, recipe: Recipe, groups: tuple[tuple[str, tuple[str, ...], int], ...]
) -> Callable[..., Mask]:
    """Returns a function that prunes networks of a recipe, compiled once for all levels."""
    context = pipeline.context
    section = pipeline.spec.sections["prune"]
    loss = loss_spec.build(recipe.loss, context.dataset.target)
    seen = networks.evidence(context, recipe.network, section.seen, loss)
    paths, slices = {n: paths for n, paths, _ in groups}, {n: count for n, _, count in groups}
    criterion = CRITERIA[section.criterion]
    return pruner.make_pruner(context.mesh, criterion, paths, slices, **seen)


STAGE = Stage(
    section=PruneSpec,
    run=run,
    steps=steps,
    place=place,
    check=check,
    trains=lambda section: ("fine_tune",) if section.rewind == "none" else ("train",),
    first="quantised weights are not pruned",
)
