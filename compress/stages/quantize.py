"""The stage `quantize`: weights, and inputs of layers, lose bits; what is left is trained."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from compress import form as form_lib
from compress import made as made_lib
from compress.form import Form
from compress.made import CompressSpec, Made, Node, Pipeline, Shaped
from compress.quantize import data_free
from compress.quantize.allocation import BudgetError
from compress.stages import bits as bits_lib
from compress.stages import latent, rate
from compress.stages.bits import LEAST_BITS, OF_METHOD
from compress.stages.latent import Quantizer
from compress.stages.quantize_spec import QuantizeSpec
from compress.stages.stage import LOOKS, Stage, Step, one_each, train, unpruned
from groundwork import architectures, trees
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError, about
from groundwork.train import loss_spec
from groundwork.trees import Variables

SEEN = 256  # training images with which grids of activations are calibrated
CORRECTED_WITH = 64  # training images over which means of layers' outputs are taken
OF_METHODS = {  # keys that some methods alone use
    **dict.fromkeys(("bits", "layers", "mixed"), tuple(LEAST_BITS)),
    **dict.fromkeys(("init", "rate", "rate_importance", "rate_rounds"), ("kmeans",)),
    **dict.fromkeys(("symmetric", "range"), ("uniform",)),
    "per_channel": ("uniform", "binary"),
    "scales": ("ternary",),
    **dict.fromkeys(("stochastic", "scaled"), ("binary",)),
}
NO_ZERO = "quantize.method='binary' has no zero for pruned weights: try ternary"


def steps(section: QuantizeSpec) -> list[Step]:
    """Returns one step per number of bits and round; a single one if the method has fixed bits."""
    last = one_each("quantize", section.bits if section.method in LEAST_BITS else (0,))
    if not (section.rate and section.fine_tune):
        return last
    every = []
    for step in last:
        after = ""
        for number in range(1, section.rate_rounds):
            name = f"{step.name}-round-{number}"
            every.append(Step(name, step.setting, after, continues=False))
            after = name
        every.append(step._replace(after=after))
    return every


def check_signs(spec: CompressSpec, stages: Sequence[str]) -> None:
    """Refuses `binary` for pruned weights that these stages leave pruned.

    Raises:
      UserError: `binary` has no zero for them.
    """
    student = "distill" in stages and spec.sections["distill"].init != "keep"
    dense = student or "factorize" in stages
    if "quantize" in stages and spec.sections["quantize"].method == "binary" and not dense:
        raise UserError(NO_ZERO)


def check(spec: CompressSpec, shaped: Shaped) -> Shaped:
    """Refuses patterns that match no kernel, and images that are not in memory but needed."""
    section = spec.sections["quantize"]
    if shaped.shapes is not None:
        section.fixed(list(latent.kernels(shaped.shapes["params"])))
    looks = section.activation_bits or section.mixed or section.corrects or section.weighs
    if isinstance(shaped.dataset, FileDataset) and looks:
        raise UserError(LOOKS)
    if section.activation_bits and trees.shape_of(shaped.dataset.example) is None:
        raise UserError(
            "quantize.activation_bits rounds the inputs of networks of one array of floats: set it "
            "to 0"
        )
    return shaped


def begin(spec: CompressSpec, config: Mapping[str, Any], dataset: AnyDataset) -> None:
    """Refuses `binary` for a source that has pruned weights."""
    signs = "quantize" in spec.stages and spec.sections["quantize"].method == "binary"
    if spec.source.path and signs:
        model = architectures.build(config, dataset.classes)
        variables = made_lib.given(spec, model, architectures.shapes(model, dataset.example))
        if made_lib.given_mask(spec, variables):
            check_signs(spec, spec.stages)


def run(pipeline: Pipeline, node: Node, before: Made) -> Made:
    """Quantises, and trains what is left."""
    section: QuantizeSpec = pipeline.spec.sections["quantize"]
    if section.method == "binary" and before.mask:
        raise UserError(NO_ZERO)
    bits = before.bits or processes.on_first(_choose_bits, pipeline, section, before, node.setting)
    quantizer = Quantizer(section, bits, stacks_of(before, pipeline.context.dataset.example, bits))
    if before.bits:  # an earlier round made it
        before = rate.again(pipeline, node, before, quantizer.stacks)
    form, variables = before.form, before.variables
    if section.activation_bits:
        layers = form_lib.reached(before.form, pipeline.context.dataset.example)
        rounded = dict.fromkeys(layers, section.activation_bits)
        form, variables = with_grids(pipeline, before, rounded, section.activation_range)
    values = pipeline.mapped(
        lambda key, variables, mask: latent.begin(quantizer, key, variables, mask),
        pipeline.context.roots,
        variables,
        rate.masked(quantizer, before) if section.rate else before.mask,
    )
    kept = before.mask
    if section.rate:
        weighed = rate.importance(pipeline, before, [*bits]) if section.weighs else None
        values, kept = rate.assigned(quantizer, before, values, section.rate, weighed)
        for path in bits:
            if not kept[path].reshape(len(kept[path]), -1).any(axis=1).all():
                pipeline.context.reporter.say(f"nothing of {path} is left: quantize.rate is high")
    if section.fine_tune:
        coded = bits if section.method == "kmeans" else ()  # no mask fits codebooks
        mask = {path: held for path, held in kept.items() if path not in coded}
        training = _with_gradients(pipeline, section, form)
        recipe = pipeline.spec.fine_tuned(training, quantizer)
        values = train(pipeline, node, recipe, (values, mask), before._replace(mask=kept))
    mask = kept
    if section.corrects:
        values = corrected(pipeline, quantizer, before, values)
        mask = unpruned(mask, values["params"], mask.keys() - bits.keys())
    stored = pipeline.mapped(lambda values: latent.finish(quantizer, values), values)
    return Made(form, stored, mask, dict(bits))


def _choose_bits(
    pipeline: Pipeline, section: QuantizeSpec, before: Made, setting: float
) -> dict[str, int]:
    """Returns path of a kernel → bits, by the method, the config, or measured losses."""
    shapes = jax.eval_shape(lambda tree: trees.replicate(tree, 0), before.variables["params"])
    paths = list(latent.kernels(shapes))
    if section.method in OF_METHOD:
        return dict.fromkeys(paths, OF_METHOD[section.method])
    fixed = section.fixed(paths)
    if not section.mixed:
        return {path: fixed.get(path, int(setting)) for path in paths}
    free = [path for path in paths if path not in fixed]
    if not free:
        return fixed
    with about("quantize.bits", BudgetError):
        loss = loss_spec.build(pipeline.spec.loss, pipeline.context.dataset.target)
        chosen = bits_lib.mixed(pipeline.context, section, before, free, setting, loss)
    return {path: fixed.get(path) or chosen[path] for path in paths}


def stacks_of(before: Made, example: Any, paths: Iterable[str]) -> dict[str, int]:
    """Returns path of a kernel → its leading axes, of those that stack the layers of a scan."""
    layers = form_lib.reached(before.form, example).values()
    stacks = {layer.parameter: len(layer.stack) for layer in layers if layer.stack}
    return {path: stacks[path] for path in paths if path in stacks}


def with_grids(
    pipeline: Pipeline, before: Made, bits: Mapping[str, int], span: str
) -> tuple[Form, Variables]:
    """Returns form and variables of a network whose layers' inputs have few bits.

    Args:
      pipeline: of the run.
      before: the network.
      bits: path of a layer → bits of its inputs.
      span: `activation_range` of the config.
    """
    context = pipeline.context
    layers = form_lib.reached(before.form, context.dataset.example)
    enclosed = [path for path in bits if path in layers and layers[path].enclosed]
    for path in enclosed:
        context.reporter.say(f"inputs of {path} keep their bits: they stay within a scan or remat")
    bits = {path: b for path, b in bits.items() if path not in enclosed}
    inputs, grids = data_lib.first_examples(context.dataset, SEEN)[0], []
    for r in range(context.replicates):
        one = jax.tree.map(jnp.asarray, trees.replicate(before.variables, r))
        grids.append(form_lib.calibrated(before.form, one, inputs, bits, range=span))
    form = before.form._replace(activations=bits)
    return form, {**before.variables, form_lib.ACTIVATIONS: trees.stack(grids)}


def corrected(
    pipeline: Pipeline, quantizer: Quantizer, before: Made, values: Variables
) -> Variables:
    """Returns what quantisation begins with, and biases that make up for its mean errors.

    Inputs of layers keep their bits meanwhile. See `quantize.data_free.correct`.

    Args:
      pipeline: of the run; the log says which errors are not corrected.
      quantizer: of the stage.
      before: the network.
      values: as `latent.begin` gives them, on the host.
    """
    context, apply, each = pipeline.context, form_lib.evaluation(before.form), []
    inputs = data_lib.first_examples(context.dataset, CORRECTED_WITH)[0]
    for r in range(context.replicates):
        exact, start = (trees.replicate(tree, r) for tree in (before.variables, values))
        rounded = trees.flatten(latent.rounded(quantizer, start))
        found = data_free.correct(apply, exact, trees.unflatten(rounded, exact), inputs)
        moved = trees.flatten(found.variables)
        new = {path: moved[path] for path in found.corrected.values()}
        each.append(trees.map_with_path(lambda path, leaf, new=new: new.get(path, leaf), start))
        for path, reason in found.left.items() if r == 0 else ():
            context.reporter.say(f"the error of {path} is not corrected: {reason}")
    return trees.stack(each)


def _with_gradients(pipeline: Pipeline, section: QuantizeSpec, form: Form) -> Form:
    """Returns the form to train; its gradients have few bits if the config says so."""
    if not section.gradient_bits:
        return form
    layers = form_lib.reached(form, pipeline.context.dataset.example)
    return form._replace(gradients=dict.fromkeys(layers, section.gradient_bits))


def idle(section: QuantizeSpec) -> dict[str, str]:
    """Returns the keys that are for other methods, or that other keys turn off."""
    keys = {
        key: f"quantize.method={section.method} does not use it"
        for key, methods in OF_METHODS.items()
        if section.method not in methods
    }
    if not section.activation_bits:
        keys["activation_range"] = "quantize.activation_bits=0 keeps float32"
    if section.method == "kmeans" and not section.rate:
        keys |= dict.fromkeys(("rate_importance", "rate_rounds"), "quantize.rate=0 is off")
    if section.rate and not section.fine_tune:
        keys["rate_rounds"] = "quantize.fine_tune=False has no training between rounds"
    if not section.fine_tune and section.gradient_bits:
        keys["gradient_bits"] = "quantize.fine_tune=False has no gradients"
    return keys


STAGE = Stage(
    section=QuantizeSpec,
    run=run,
    steps=steps,
    check=check,
    begin=begin,
    trains=lambda section: ("fine_tune",) if section.fine_tune else (),
    idle=idle,
    first="nothing changes quantised weights",
)
