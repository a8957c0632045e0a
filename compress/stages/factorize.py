"""The stage `factorize`: layers become products of smaller ones."""

import dataclasses
from typing import Any

import numpy as np

from compress import form as form_lib
from compress import share
from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.stages.stage import LOOKS, Stage, Step, one_each, train
from groundwork import architectures, trees
from groundwork.data import dataset as data_lib
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.trees import Params, Variables
from lowrank import factorization, work
from lowrank.choose import plans
from lowrank.choose.planner import SEEN, Planner
from lowrank.choose.rules import Patterns, Rules, Shares
from lowrank.factorization import Plan
from lowrank.spec import check_rules, idle_rules
from pruning import masks


@dataclasses.dataclass(frozen=True)
class FactorizeSpec:
    """`factorize`: low-rank layers; for the keys see `lowrank.choose.rules.Rules`."""

    method: str
    ranks: str
    shares: Shares
    measure: str
    leave: Patterns
    keep_slow: bool

    def __post_init__(self) -> None:
        check_rules(self.rules, "factorize", "method")

    @property
    def rules(self) -> Rules:
        """The section as `lowrank` has it."""
        section = dataclasses.asdict(self)
        return Rules(methods=(section.pop("method"),), **section)


def steps(section: FactorizeSpec) -> list[Step]:
    """Returns one step for each share."""
    return one_each("factorize", section.rules.settings)


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses a budget that cannot be reached, or a network that has no layer left."""
    section, dataset = spec.sections["factorize"], shaped.dataset
    if shaped.shapes is not None:
        example = dataset.example
        full = architectures.shapes(shaped.form.model, example)
        leave = _left_alone(section, shaped.form, shaped.shapes["params"], example)
        with about("factorize.leave"):
            layers, _ = factorization.decomposable(shaped.form.model, full, example, leave)
        if not layers:
            raise UserError("factorize.leave: no layer is left to factorise")
        with about("factorize.shares"):
            for cost in section.rules.settings if section.ranks == "budget" else ():
                plans.check_share(layers, section.method, cost, section.measure)
    if isinstance(dataset, FileDataset) and section.method == "svd_outputs":
        raise UserError(LOOKS)
    return dataclasses.replace(shaped, shapes=None)  # they depend on the ranks


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Factorises layers; ranks are chosen for all replicates together.

    Factors of pruned kernels are dense; all other layers stay pruned.
    """
    form, params = before.form, before.variables["params"]
    whole = {**before.variables, "params": share.materialize(params, form.groups)}
    small = factorised(pipeline, before, _plan(pipeline, node, form, params, whole))
    recipe = pipeline.spec.fine_tuned(small.form)
    return small._replace(
        variables=train(pipeline, node, recipe, (small.variables, small.mask), before)
    )


def factorised(pipeline: Pipeline, before: Made, plan: Plan) -> Made:
    """Returns a network with factors in place of the kernels of a plan, before it is trained."""
    form, params = before.form, before.variables["params"]
    whole = {**before.variables, "params": share.materialize(params, form.groups)}
    example = pipeline.context.dataset.example
    layers = factorization.planned(form.model, trees.replicate(whole, 0), plan, example)
    variables, _ = work.decomposed(pipeline.context, form.model, plan, whole, layers)
    variables = {**variables, "params": share.without(variables["params"], form.groups)}
    still = masks.flatten(variables["params"], before.mask.__contains__)
    mask = {path: before.mask[path] for path in still}
    return before._replace(form=form._replace(plan=plan), variables=variables, mask=mask)


def _plan(pipeline: Pipeline, node: Node, form: Form, params: Params, variables: Variables) -> Plan:
    """Returns the plan, which has a unit of its own: a second one may differ.

    It depends on measured times, and checkpoints of the network fit one plan alone.
    """
    context, section = pipeline.context, pipeline.spec.sections["factorize"]
    unit = context.run.unit(f"plans/{node.name}")
    if not processes.on_first(lambda: unit.done):
        processes.on_first(context.run.unit(node.unit).set_aside)
        example = context.dataset.example
        leave = _left_alone(section, form, params, example)
        planner = Planner(
            model=form.model,
            variables=variables,
            example=example,
            rules=dataclasses.replace(section.rules, leave=leave),
            inputs=lambda: data_lib.first_examples(context.dataset, SEEN)[0],
            stop_if_asked=work.stop_if_asked(context),
        )

        def plan() -> dict[str, Any]:
            with about("factorize.shares", plans.BudgetError):
                return planner.plan(section.method, node.setting)

        unit.finish({"share": np.asarray(float(node.setting))}, processes.on_first(plan))
    return unit.result()[1]["plan"]


def _left_alone(
    section: FactorizeSpec, form: Form, params: Params, example: Any
) -> tuple[str, ...]:
    """Returns patterns of layers that stay: the config's, and all tied layers but the first.

    A file cannot tell how a kernel of other axes is used, as those of attention's heads or of a
    scan's layers are: such layers stay, too.
    """
    left = share.layers_left(params, form.groups)
    layers = form_lib.reached(form, example)
    tied = [path for path in layers if any(f"{path}/".startswith(f"{layer}/") for layer in left)]
    other = [path for path, layer in layers.items() if not layer.is_plain]
    return tuple(dict.fromkeys([*section.leave, *tied, *other]))


STAGE = Stage(
    section=FactorizeSpec,
    run=run,
    steps=steps,
    check=check,
    idle=lambda section: idle_rules(section.rules),
    first="factors of pruned kernels are dense",
)
