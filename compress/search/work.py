"""The work of a search: the original, what is known of it, candidates, and the chosen one."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress import fit, results
from compress import made as made_lib
from compress import work as networks_lib
from compress.form import Form
from compress.made import ORIGINAL, Made, Node, Pipeline
from compress.search import (
    analytic,
    board,
    candidate,
    choosing,
    clocks,
    costs,
    history,
    proposals,
    sensitivity,
    settings,
    trial,
)
from compress.search import original as original_lib
from compress.search import space as space_lib
from compress.search.analytic import Knowledge
from compress.search.board import Board
from compress.search.candidate import Bench
from compress.search.clocks import Clock
from compress.search.history import Candidate
from compress.search.made import Search
from compress.search.options import Space
from compress.search.spec import KNOWLEDGE, SearchSpec, chosen_unit
from compress.stages import original as original_stage
from groundwork import architectures
from groundwork.architectures.cpu.convolution import computed_by
from groundwork.context import Context
from groundwork.data.dataset import AnyDataset
from groundwork.data.file_dataset import FileDataset
from groundwork.devices import processes
from groundwork.errors import UserError
from groundwork.runs import checkpoint, trained
from groundwork.runs.run import Run
from groundwork.study import Prepared
from groundwork.train import footprint, loss_spec, networks, own


def prepare(spec: SearchSpec, config: Mapping[str, Any], dataset: AnyDataset) -> Prepared:
    """Returns the devices and the work, which are checked by shapes alone.

    Raises:
      UserError: the space is empty, an engine is not installed, or devices cannot share batches.
    """
    if isinstance(dataset, FileDataset):
        raise UserError("the search looks at examples in memory: set data.stream=false")
    inner = spec.compress
    model = architectures.build(config, dataset.classes)
    shapes = architectures.shapes(model, dataset.example)
    footprint.check("this model", shapes, inner.optimizer, inner.replicates)
    loss, code = own.checked_loss(inner.loss, dataset, model, shapes)
    space = space_lib.make(spec.space, model, shapes, dataset.example)
    clock = _clock(spec)
    sizes = {"train": inner.train.batch_size, "fine_tune": inner.fine_tune.batch_size}
    mesh = networks.mesh_for(inner.mesh, inner.replicates, sizes, dataset)

    def work(context: Context) -> None:
        compiled = fit.compiler(context)
        pipeline = Pipeline(context=context, spec=inner, model=model, compiled=compiled)
        search(_begun(spec, pipeline, space, clock))

    def begin() -> None:
        if inner.source.path:
            trained.check_data(inner.source.path, config["data"], "source.path", apart=True)
            made_lib.given(inner, model, shapes)
        for path in spec.search.baselines:
            results.read(path)

    return Prepared(
        mesh=mesh,
        convolutions=computed_by(model, dataset.example),
        work=work,
        begin=begin,
        metric=loss.metric,
        own=code,
    )


def search(run: Search) -> None:
    """Evaluates all candidates that are not done, and makes the chosen network."""
    found: list[Candidate] = []
    for numbers in run.spec.rounds:
        board.do(run.board, _round(run, numbers, found))
        units = [run.context.run.unit(history.name_of(number)) for number in numbers]
        found += [history.from_json(unit.result()[1]) for unit in units]
    board.do(run.board, {chosen_unit(run.spec): lambda: choosing.make(run, found)})


def _round(
    run: Search, numbers: range, found: Sequence[Candidate]
) -> dict[str, Callable[[], None]]:
    """Returns the unit of each candidate of a round → what makes it."""
    context, limit = run.context, run.spec.search.seconds
    over = limit and history.seconds(found, run.spec.search.parallel) >= limit

    @functools.cache
    def offers() -> list[list[Any]]:  # as JSON: the first process tells the others
        offered = proposals.offers(run, found, len(numbers))
        return [[settings.to_json(choice), origin] for choice, origin in offered]

    def make(number: int) -> None:
        if processes.count() == 1 and context.interruption.reached():
            raise context.interruption.stop(f"the unit before {history.name_of(number)}")
        offer = None
        if not over:
            choice, origin = processes.on_first(offers)[number - numbers[0]]
            offer = settings.from_json(choice), origin
        trial.evaluate(run, number, list(found), offer)

    return {history.name_of(number): functools.partial(make, number) for number in numbers}


def lost(run: Run) -> dict[str, str]:
    """Returns the units of networks whose files are lost or damaged → what is wrong with a file."""
    units = run.units()
    chosen = [name for name in units if name.startswith("chosen/")][-1:]  # earlier ones gave way
    folders = dict.fromkeys(chosen, "chosen")
    folders |= {name: name for name in units if name.startswith("candidates/")}
    found = networks_lib.lost(run)
    for name, folder in folders.items():
        sizes = checkpoint.metadata(run.unit(name).folder / "final").get("bytes", [])
        found |= networks_lib.lost_files(run, name, folder, sizes)
    return found


def _begun(spec: SearchSpec, pipeline: Pipeline, space: Space, clock: Clock | None) -> Search:
    """Returns the search with its original and what is known of it, which are units of the run."""
    context = pipeline.context
    shared = board.opened(spec.search.board, context)
    unit = context.run.unit(made_lib.unit_name(ORIGINAL))

    def train() -> None:
        context.reporter.begin(unit.name, 0, 1)
        node = Node(ORIGINAL, "", ORIGINAL, 0, False)
        networks_lib.finish(pipeline, node, original_stage.run(pipeline, node))

    board.do(shared, {unit.name: train})
    tree, metadata = unit.result()
    made = networks_lib.read_back(context, tree, metadata)
    loss = loss_spec.build(spec.compress.loss, context.dataset.target)
    known = original_lib.of(
        made.form, made.variables, made.mask, context.dataset, loss=loss, seed=spec.seed
    )
    bits = [option.bits for options in space.options.values() for option in options]
    again = spec.given.steps if spec.given else ()
    bits += [one.bits for ancestor in again for one in ancestor.choice.values()]
    bench = Bench(pipeline=pipeline, graph=known.found.graph, most_bits=max([1, *bits]))
    return Search(
        spec=spec,
        bench=bench,
        original=made,
        reference=float(np.mean(metadata["validation"])),
        metric=loss.metric,
        space=space,
        clock=clock,
        knowledge=_knowledge(spec, bench, known, space, clock, shared) if spec.knows else None,
        board=shared,
    )


def _knowledge(
    spec: SearchSpec,
    bench: Bench,
    known: original_lib.Original,
    space: Space,
    clock: Clock | None,
    shared: Board,
) -> Knowledge:
    """Returns sensitivities and costs of all options of a space, which are one unit of the run."""
    context = bench.pipeline.context
    unit = context.run.unit(KNOWLEDGE)

    def learnt() -> dict[str, Any]:
        begun = time.perf_counter()
        table = _with_files(bench, known, costs.table(known, space, spec.objectives, clock))
        examples, criterion = spec.search.examples, spec.space.criterion
        measured = sensitivity.measure(known, space, examples, criterion)
        known_now = Knowledge(space=space, sensitivities=measured, costs=table)
        return {**known_now.to_json(), "seconds": time.perf_counter() - begun}

    def learn() -> None:
        context.reporter.begin(unit.name, 0, 1)
        for line in str(space).splitlines():
            context.reporter.say(line)
        unit.finish({"options": np.asarray(space.size > 0)}, processes.on_first(learnt))
        context.reporter.end(f"{len(space.options)} layers")

    board.do(shared, {unit.name: learn})
    return Knowledge.from_json(unit.result()[1])


def _with_files(bench: Bench, known: original_lib.Original, table: costs.Costs) -> costs.Costs:
    """Returns costs whose bytes beside the layers are those of a whole file, as candidates have it.

    The file of the original has no part in it: its kernels share one stream of float32 numbers,
    and its biases have all their bits.
    """
    coded = [o for o in analytic.uniform(table.space) if any(one.bits for one in o.values())]
    plain = [o for o in coded if not any(one.changes_form for one in o.values())]
    if "bytes" not in table.names or not plain:
        return table
    choice = plain[len(plain) // 2]
    whole = Made(Form(known.model), known.variables, known.mask, {})
    made = candidate.pruned(whole, choice, 1.0)
    size = costs.file_bytes(
        made.form, candidate.nearest(bench, made, choice), known.dataset.example
    )
    missed = size - round(table.of(choice)["bytes"])
    return dataclasses.replace(table, rest={**table.rest, "bytes": table.rest["bytes"] + missed})


def _clock(spec: SearchSpec) -> Clock | None:
    if "milliseconds" not in spec.objectives:
        return None
    return clocks.clock(spec.budget.engine or clocks.XLA, spec.budget.threads)
