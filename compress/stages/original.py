"""The network that all stages start from: it is trained here, or taken from `source`."""

from compress import made as made_lib
from compress.form import Form
from compress.made import Made, Node, Pipeline
from compress.stages.stage import train
from groundwork import architectures
from groundwork.train import networks


def run(pipeline: Pipeline, node: Node) -> Made:
    """Returns the original network."""
    context, spec, form = pipeline.context, pipeline.spec, Form(pipeline.model)
    if spec.source.path:
        shapes = architectures.shapes(pipeline.model, context.dataset.example)
        variables = made_lib.given(spec, pipeline.model, shapes)
        return Made(form, variables, made_lib.given_mask(spec, variables), {})
    start = networks.initial(context, pipeline.model)
    variables = train(pipeline, node, spec.as_original(form), (start, {}), None)
    return Made(form, variables, {}, {})
