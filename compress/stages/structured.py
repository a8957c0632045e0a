"""The stage `structured`: whole units go, such as channels, and the smaller network is trained."""

# R replicates, U units of a group

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np

from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages.stage import Stage, one_each, train
from groundwork import trees
from groundwork.data import dataset as data_lib
from groundwork.data.file_dataset import FileDataset
from groundwork.errors import UserError, about, unknown
from groundwork.runs.progress import Reporter
from groundwork.train import loss_spec, networks
from groundwork.trees import Variables
from pruning import structured as units
from pruning.structured import CRITERIA, Graph, Keep, Narrowed, Scores

AFTER = ("quantize",)  # the stages that may follow
LOOKS = "structured.criterion or structured.compensate looks at examples: data.stream=false"
EXAMPLES = 256  # at which criteria and compensation look


@dataclasses.dataclass(frozen=True)
class StructuredSpec:
    """`structured`: units of each group that go; see `pruning.structured`."""

    ratio: Annotated[tuple[float, ...], "shares in (0, 1), such as (0.5,)"]
    criterion: str
    compensate: bool

    def __post_init__(self) -> None:
        names = {step.name for step in one_each("structured", self.ratio)}
        if not self.ratio or len(names) < len(self.ratio):
            raise UserError(
                f"structured.ratio={self.ratio} must be shares that differ in six digits"
            )
        if not all(0 < one < 1 for one in self.ratio):
            raise UserError(f"structured.ratio={self.ratio} must lie between 0 and 1")
        if self.criterion not in CRITERIA:
            raise unknown("structured.criterion", self.criterion, CRITERIA)

    @property
    def looks(self) -> bool:
        """Whether examples are looked at."""
        return self.compensate or self.criterion in units.LOOKS


def place(spec: CompressSpec) -> None:
    """Refuses stages that cannot change a network without some units, or whose layers cannot go."""
    for stage in spec.before("structured"):
        if stage in ("share", "factorize"):
            raise UserError(f"stages: structured takes no units of layers after {stage}")
    for stage in spec.after("structured"):
        if stage not in AFTER:
            raise UserError(f"stages: {stage} must come before structured")


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses a network of which nothing can go; returns it as it is without the units."""
    section: StructuredSpec = spec.sections["structured"]
    if isinstance(shaped.dataset, FileDataset) and section.looks:
        raise UserError(LOOKS)
    graph = graph_of(shaped.form, shaped.shapes, shaped.dataset.example)
    alike = {group.name: np.arange(group.units, dtype=float) for group in graph.groups}
    keep = units.choose(graph, alike, max(section.ratio))
    small = jax.eval_shape(lambda tree: units.cut(graph, tree, keep), graph.shapes)
    return dataclasses.replace(shaped, form=_form(graph, keep), shapes=small)


def graph_of(form: Form, shapes: Any, example: Any) -> Graph:
    """Returns the groups of a network's units.

    Raises:
      UserError: nothing of it can be removed.
    """
    two = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), example)
    with about("structured"):
        return units.groups(form.model, shapes, two)


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Takes the units with the lowest scores away, and trains what is left."""
    first = jax.tree.map(np.asarray, trees.replicate(before.variables, 0))
    graph = graph_of(before.form, jax.eval_shape(lambda: first), pipeline.context.dataset.example)
    small = without(pipeline, graph, before, node.setting)
    recipe = pipeline.spec.fine_tuned(small.form)
    return small._replace(
        variables=train(pipeline, node, recipe, (small.variables, small.mask), before)
    )


def without(pipeline: Pipeline, graph: Graph, before: Made, ratio: units.Ratio) -> Made:
    """Returns a network without the units that have the lowest scores, before it is trained.

    Args:
      pipeline: of the run; the section `structured` of its spec says how units are scored.
      graph: of the network.
      before: the network.
      ratio: the share of units that goes, see `pruning.structured.choose`.
    """
    context, section = pipeline.context, pipeline.spec.sections["structured"]
    each = [
        jax.tree.map(jnp.asarray, trees.replicate(before.variables, r))
        for r in range(context.replicates)
    ]
    kept = [
        units.choose(graph, _scores(pipeline, graph, one, r), ratio) for r, one in enumerate(each)
    ]
    if section.compensate:
        inputs, _ = data_lib.first_examples(context.dataset, EXAMPLES)
        each = compensated(context.reporter, graph, each, kept, inputs)
    keep = {name: np.stack([one[name] for one in kept]) for name in kept[0]}
    small = jax.tree.map(np.asarray, units.cut(graph, trees.stack(each), keep))
    paths = {f"params/{path}": leaf for path, leaf in before.mask.items()}
    cut = units.cut(graph, paths, keep)
    mask: Any = {path.removeprefix("params/"): np.asarray(leaf) for path, leaf in cut.items()}
    return before._replace(form=_form(graph, keep), variables=small, mask=mask)


def compensated(
    reporter: Reporter, graph: Graph, each: list[Variables], kept: list[Keep], inputs: Any
) -> list[Variables]:
    """Returns variables of each replicate that make up for what goes, and says once which cannot.

    Args:
      reporter: of the run.
      graph: of the network.
      each: the variables of each replicate, at full size.
      kept: of each replicate, group → [U] bool.
      inputs: [B, …] of the network.
    """
    pairs = zip(each, kept, strict=True)
    made = [units.least_squares(graph, one, keep, inputs) for one, keep in pairs]
    said = {path: why for _, missed in made for path, why in missed.items()}
    for path, why in said.items():
        reporter.say(f"{path} is not compensated: {why}")
    return [solved for solved, _ in made]


def _form(graph: Graph, keep: Keep) -> Form:
    narrow: Any = Narrowed(graph=graph, keep=keep)
    return Form(narrow)


def _scores(pipeline: Pipeline, graph: Graph, variables: Variables, replicate: int) -> Scores:
    """Returns the scores of one replicate's units."""
    context, section = pipeline.context, pipeline.spec.sections["structured"]
    evidence: dict[str, Any] = {}
    if section.criterion in units.LOOKS:
        loss = loss_spec.build(pipeline.spec.loss, context.dataset.target)
        seen = networks.evidence(context, graph.model, EXAMPLES, loss)
        evidence["inputs"] = seen["examples"].inputs
        evidence["loss"] = lambda variables: seen["loss"](variables, seen["examples"])
    seed = context.seed + replicate
    return units.scores(graph, variables, section.criterion, seed=seed, **evidence)


STAGE = Stage(
    section=StructuredSpec,
    run=run,
    steps=lambda section: one_each("structured", section.ratio),
    place=place,
    check=check,
)
