"""What is refused before anything is trained. Read `check`."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from compress import distill, share
from compress import made as made_lib
from compress.form import Form
from compress.spec import CompressSpec
from compress.stages import latent, teachers
from compress.stages.stage_specs import in_own_words
from groundwork import architectures
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.errors import UserError
from groundwork.runs import trained
from lowrank import setup as lowrank_setup
from lowrank.choose import plans
from pruning import schedule


def check(spec: CompressSpec, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuse what can be known to fail from shapes alone.

    Raises:
      UserError: groups that cannot be one, a budget or levels that cannot be reached, a student
        that cannot be made.
    """
    form = Form(architectures.build(config, dataset.classes))
    shapes = architectures.shapes(form.model, dataset.shape)
    for stage in spec.stages:
        if stage == "share":
            shapes = tied_shapes(shapes, spec)
            form = form._replace(groups=spec.share.groups)
        elif stage == "distill" and spec.distill.init != "keep":
            form, shapes = _student(spec, form, shapes, dataset)
        elif not shapes:  # they depend on the ranks
            continue
        elif stage == "factorize":
            _check_factors(spec, form, shapes["params"], dataset)
            shapes = None
        elif stage == "prune":
            rules, prunable = spec.prune, made_lib.prunable(spec, shapes["params"])
            levels = max(rules.levels)
            try:
                schedule.plan(prunable, rules.rate, rules.scope, levels, rules.schedule)
            except UserError as error:
                raise UserError(_own_keys(str(error))) from error
        elif stage == "quantize":
            latent.said(spec.quantize, list(latent.kernels(shapes["params"])))
    if isinstance(dataset, FileDataset) and _looks(spec):
        raise UserError("activation_bits, mixed and svd_outputs look at images: data.stream=false")


def begin(
    spec: CompressSpec, config: Mapping[str, Any], model: nn.Module, dataset: AnyDataset
) -> None:
    """Refuse what a new run lacks.

    Raises:
      UserError: teachers or a source that are not there, or are of another kind.
    """
    if "distill" in spec.stages or spec.distill.during:
        teachers.check(spec.distill, config, dataset)
    if spec.source.path:
        trained.check_data(spec.source.path, config["data"], "source.path", apart=True)
        variables = made_lib.given(spec, architectures.shapes(model, dataset.shape))
        if made_lib.zeros(variables["params"]):
            spec.check_signs(spec.stages)


def _own_keys(text: str) -> str:
    """What `pruning.schedule` says of its own config, said of `prune.levels`."""
    text = text.replace("or levels=0 for the dense network alone", "or leave out the stage prune")
    return text.replace("set levels=", "set prune.levels of ")


def tied_shapes(shapes: Any, spec: CompressSpec) -> Any:
    """Shapes of variables once groups are one.

    Raises:
      UserError: they cannot be.
    """
    try:
        params = jax.eval_shape(lambda tree: share.tie(tree, spec.share.groups), shapes["params"])
    except ValueError as error:
        raise UserError(f"share.groups: {error}") from error
    return {**shapes, "params": params}


def _check_factors(spec: CompressSpec, form: Form, params: Any, dataset: AnyDataset) -> None:
    own, full = spec.factorize, architectures.shapes(form.model, dataset.shape)
    lowrank = made_lib.low_rank_spec(spec, form, params, dataset.shape)
    with in_own_words():
        found, _ = lowrank_setup.reached(lowrank, form.model, full, dataset.shape)
        for setting in own.settings if own.ranks == "budget" else ():
            plans.check_budget(found, own.method, setting, own.measure)
    if not found:
        raise UserError("factorize.leave: no layer is left to factorise")


def _student(spec: CompressSpec, form: Form, shapes: Any, dataset: AnyDataset) -> tuple[Form, Any]:
    """What `distill` makes of a form, and its shapes."""
    model = form.model
    if spec.distill.model:
        model = architectures.build(spec.distill.model, dataset.classes)
    small = architectures.shapes(model, dataset.shape)
    if spec.distill.init == "shrink":
        try:
            links = distill.chain(form.model, dataset.shape)
            jax.eval_shape(lambda wide: distill.shrink(wide, None, links, small), shapes)
        except ValueError as error:
            raise UserError(f"distill.init='shrink': {error}") from error
    return Form(model), small


def _looks(spec: CompressSpec) -> bool:
    own = spec.quantize
    quantizes = "quantize" in spec.stages and (own.activation_bits > 0 or own.mixed)
    return quantizes or ("factorize" in spec.stages and spec.factorize.method == "svd_outputs")
