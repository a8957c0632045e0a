"""Students of the stage `distill` that teach each other from scratch, in one training."""

# R replicates

import dataclasses

from compress import made as made_lib
from compress import mutual
from compress.form import Form
from compress.made import Made, Node, Pipeline, unit_name
from groundwork.devices import mesh as mesh_lib
from groundwork.train import networks
from groundwork.trees import Variables

PEER = "distill-peer"


def names(students: int) -> list[str]:
    """Returns the names of all students but the first, `distill-peer-2` and so on."""
    return [f"{PEER}-{number}" for number in range(2, students + 1)]


def train(pipeline: Pipeline, node: Node, student: Form, first: Variables) -> Made:
    """Returns the first of several students that learned from each other, with the others in it.

    They are trained like the original, for as many steps. The `parameters` of the rows are those of
    one student.

    Args:
      pipeline: of the run.
      node: the network to train.
      student: the form of each of them.
      first: variables [R, …] of the first one before training; the others are drawn here, each from
        a stream of keys of its own.
    """
    context, students = pipeline.context, pipeline.spec.sections["distill"].mutual
    starts = [first, *(networks.initial(context, student.model, n) for n in names(students))]
    recipe = dataclasses.replace(pipeline.spec.as_original(student), students=students)
    compiled = pipeline.compiled(recipe)
    state = compiled.start(*context.put((mutual.join(*starts), {})))
    unit, steps = context.run.unit(node.unit), recipe.steps.steps
    parameters = made_lib.parameters(first["params"], {})
    end = mesh_lib.fetch(networks.train(context, compiled.programs, unit, steps, state, parameters))
    peers = {str(n + 1): mutual.student(end, n) for n in range(1, students)}
    return Made(student, mutual.student(end, 0), {}, {}, peers)


def other(pipeline: Pipeline, node: Node, first: Made) -> Made:
    """Returns another student, which the training of the first one made."""
    tree, _ = pipeline.context.run.unit(unit_name(node.parent)).result()
    variables = tree["peers"][node.name.rpartition("-")[2]]
    return Made(first.form, variables, {}, {})
