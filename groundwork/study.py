"""What every command does: config, data, devices, run folder, unfinished work, report."""

import contextlib
import dataclasses
import functools
import json
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from groundwork import architectures, keys, named, terminal
from groundwork import config as config_lib
from groundwork.context import Context
from groundwork.data import dataset as data_lib
from groundwork.data.dataset import AnyDataset
from groundwork.data.spec import DataSpec
from groundwork.devices import interruption, processes
from groundwork.devices import mesh as mesh_lib
from groundwork.devices.profile import Profile
from groundwork.devices.watchdog import Watchdog
from groundwork.entry import as_typed
from groundwork.errors import UserError
from groundwork.metric import ACCURACY, Metric
from groundwork.report import live
from groundwork.report.comparison import Comparison
from groundwork.runs import identity, mirror, operations, rehearsal
from groundwork.runs import run as run_lib
from groundwork.runs.progress import LOG, Reporter
from groundwork.runs.run import Run
from groundwork.train import meter

PROFILES = "profile"  # in the folder of a run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A study that is ready to work; nothing is compiled yet.

    Attributes:
      mesh: the devices.
      convolutions: the library that computes them, since bits depend on it; None if the networks
        have none.
      work: does all units that are not done.
      begin: checks what only a new run needs, before its folder exists.
      metric: the measure by which networks are judged.
      own: key of the config → a digest of the code that it names, if that is a user's own.
    """

    mesh: Mesh
    convolutions: str | None
    work: Callable[[Context], None]
    begin: Callable[[], None] = lambda: None
    metric: Metric = ACCURACY
    own: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """One kind of experiment: all that a command consists of, and all that a sweep asks of it.

    Attributes:
      command: the name of its package, such as `lottery`, which `config.json` records.
      about: one sentence for `--help`.
      example: the path of a config.
      extendable: keys of the config whose larger value extends a finished run.
      check: resolved config → spec, which has `seed`, `replicates`, `eval_every`, `checkpoint`.
      units: spec → names of all units.
      prepare: spec, config, data set → `Prepared`.
      following: spec, the run's folder → what its user may do next, as one line.
      steps: spec, name of a unit → its training steps: 0 if it trains nothing, None if that is not
        known before other units are done.
      show: makes the tables, figures and pages of run folders.
      compare: run folders → their comparison, for a sweep.
      warn: spec, config, keys that were typed → lines about settings without effect.
      lost: finished unit whose results are not all there any more → what is missing; such units are
        set aside and done again.
    """

    command: str
    about: str
    example: str
    extendable: tuple[str, ...]
    check: Callable[[Mapping[str, Any]], Any]
    units: Callable[[Any], list[str]]
    prepare: Callable[[Any, Mapping[str, Any], AnyDataset], Prepared]
    show: Callable[[Sequence[Path]], Any]
    compare: Callable[[Sequence[Path]], Comparison]
    warn: Callable[[Any, Mapping[str, Any], Sequence[str]], list[str]] = lambda *_: []
    lost: Callable[[Run], dict[str, str]] = lambda run: {}
    following: Callable[[Any, str], str] = lambda spec, folder: (
        f"python -m groundwork.compare {shlex.quote(folder)} RUN … shows several runs on one page"
    )
    steps: Callable[[Any, str], int | None] = lambda spec, unit: None

    @property
    def usage(self) -> str:
        """The text of `--help`."""
        return config_lib.USAGE.format(
            program=as_typed(self.command), about=self.about, example=self.example
        )


def conduct(study: Study, argv: Sequence[str]) -> None:
    """Runs a study: parses the command line, does the units that are not done, and reports.

    Raises:
      UserError: the user made a mistake.
      Interrupted: the run was asked to stop; it is saved.
    """
    parsed, workdir = config_lib.parse(argv, study.usage)
    config = config_lib.resolve(parsed)
    spec = checked(study, config)
    span = config_lib.profiled(argv)
    processes.start()
    if config_lib.rehearses(argv):
        _rehearse(study, spec, config, argv, workdir)
        return
    with interruption.watched() as asked, mirror.opened(workdir) as (folder, bucket):
        processes.same("config", json.dumps(config), "start the same command everywhere")
        processes.same("--profile", json.dumps(span), "start the same command everywhere")
        software = json.dumps(identity.software())
        processes.same("version of the code or of a library", software, "install the same")
        dataset = data_lib.load(config)
        digest = data_lib.digest(dataset)
        processes.same("data set", digest, "give all the same files")
        prepared = study.prepare(spec, config, dataset)
        of_data = data_lib.warnings(dataset, classifies=prepared.metric == ACCURACY)
        of_data += _slower(config)
        built = str(prepared.convolutions)
        processes.same("library of convolutions", built, "build oneDNN's everywhere or nowhere")
        own = _own(config, prepared, digest)
        processes.same("code of your own", json.dumps(own), "have the same files everywhere")
        if not mirror.begun(folder, bucket):
            prepared.begin()
        facts: dict[str, Any] = {
            "data": digest,
            "devices": mesh_lib.describe(prepared.mesh),
            "convolutions": prepared.convolutions,
        }
        if prepared.metric != ACCURACY:
            facts["metric"] = prepared.metric._asdict()
        with run_lib.locked(folder, bucket):
            run, warnings = run_lib.open_run(folder, _identity(study, config, own), facts, bucket)
            units = study.units(spec)
            warnings += processes.on_first(_mend, study, run, units)
            warnings += study.warn(spec, config, config_lib.typed_keys(argv))
            run.send()
            seen = run_lib.fingerprint(run)
            processes.same("run folder", seen, "--workdir must be on a disk that all share")
            done = set(units) & set(processes.on_first(run.units))
            with (
                Reporter(folder / LOG, _steps(study, spec, units), done) as reporter,
                contextlib.closing(run),
            ):
                for warning in warnings:
                    reporter.say(f"warning: {warning}")
                if len(done) < len(units):
                    _say_mesh(reporter, prepared.mesh)
                    for warning in of_data:
                        reporter.say(f"warning: {warning}")
                    profile = Profile(span, folder / PROFILES, reporter.say)
                    context = make_context(
                        spec, dataset, prepared.mesh, run, reporter, asked, profile
                    )
                    shown = config["log"].get("page", False)
                    quietly = functools.partial(reporter.say, aloud=False)
                    with live.page(study.command, folder, shown, quietly):
                        prepared.work(context)
                    _say_operation(reporter, run, profile)
                elif span:
                    reporter.say("warning: all units are done already: there is no profile")
            if processes.first():
                study.show([folder])
                terminal.say(f"next: {study.following(spec, str(workdir))}")
            run.send()
            if bucket and processes.first():
                terminal.say(f"kept in {workdir}; the copy on this machine is removed")
            processes.wait_for_all("the report")


def _steps(study: Study, spec: Any, units: Sequence[str]) -> dict[str, int | None]:
    return {name: study.steps(spec, name) for name in units}


def _rehearse(
    study: Study, spec: Any, config: Mapping[str, Any], argv: Sequence[str], workdir: Path | str
) -> None:
    """Times the first steps that are left in a copy that is thrown away, and says what is to do.

    Raises:
      UserError: there are several processes, or the command is refused for another reason.
      Interrupted: it was asked to stop.
    """
    if processes.count() > 1:
        raise UserError("--dry-run times the steps of one process: start it alone")
    if config_lib.profiled(argv):
        raise UserError("--dry-run traces nothing: leave out --profile")
    dataset = data_lib.load(config)
    prepared = study.prepare(spec, config, dataset)
    same = _identity(study, config, _own(config, prepared, data_lib.digest(dataset)))
    done, units = _done(study, spec, workdir, same), study.units(spec)
    if done is None:
        prepared.begin()
    print(f"dry run of {workdir}, of which nothing is kept")
    warnings = study.warn(spec, config, config_lib.typed_keys(argv)) + _slower(config)
    warnings += data_lib.warnings(dataset, classifies=prepared.metric == ACCURACY)
    if not isinstance(workdir, Path):
        warnings.append("what is done in a bucket is not looked at")
    for warning in warnings:
        print(f"warning: {warning}")
    steps, seen = _steps(study, spec, units), rehearsal.NOTHING
    if len(done or ()) < len(units):
        with tempfile.TemporaryDirectory(prefix="dry_run") as folder:
            trial = Path(folder) / "run"
            if done is not None and isinstance(workdir, Path):
                rehearsal.copy(workdir, trial)
            with interruption.watched(rehearsal.Enough()) as asked, run_lib.locked(trial):
                run, _ = run_lib.open_run(trial, same)
                before = len(operations.read(run.metrics))
                with rehearsal.Watched(trial / LOG, steps, done or (), asked) as reporter:
                    context = make_context(spec, dataset, prepared.mesh, run, reporter, asked)
                    with contextlib.suppress(rehearsal.Timed), contextlib.closing(run):
                        prepared.work(context)
                seen = rehearsal.outlook(run, [u for u in units if u not in (done or ())], before)
    print(*rehearsal.lines(seen, steps, done or (), spec.replicates), sep="\n")


def _done(
    study: Study, spec: Any, workdir: Path | str, same: identity.Identity
) -> list[str] | None:
    """Returns the units that are done and whole; None if no run has begun, or it is in a bucket."""
    if not isinstance(workdir, Path) or not (workdir / identity.FILE).exists():
        return None
    identity.check_identity(workdir, same)
    run = Run(workdir, id=identity.run_id(workdir))
    run.check_places(study.units(spec))
    whole = set(run_lib.whole(run)) - study.lost(run).keys()
    return [name for name in study.units(spec) if name in whole]


def checked(study: Study, config: Mapping[str, Any]) -> Any:
    """Returns the spec of a config: whatever can be checked without data and devices is.

    Raises:
      UserError: a value is wrong; the error names its key.
    """
    spec = study.check(config)
    if "data" in config:
        config_lib.build(DataSpec, config["data"], "data")
    if "model" in config:
        architectures.model_spec(config["model"])
    return spec


def make_context(
    spec: Any,
    dataset: AnyDataset,
    mesh: Mesh,
    run: Run,
    reporter: Reporter,
    interruption: interruption.Interruption,
    profile: Profile | None = None,
) -> Context:
    """Returns the context of a run; seed, replicates and intervals are the spec's."""
    roots = keys.roots(spec.seed, spec.replicates)
    return Context(
        dataset=dataset,
        mesh=mesh,
        run=run,
        reporter=reporter,
        interruption=interruption,
        seed=spec.seed,
        roots=mesh_lib.put(mesh, roots, mesh_lib.BY_REPLICATE),
        eval_every=spec.eval_every,
        checkpoint_seconds=spec.checkpoint.every_seconds,
        poll_steps=spec.checkpoint.poll_steps,
        watchdog=Watchdog(spec.checkpoint.hang_seconds, run.folder / LOG, run.send_log),
        profile=profile or Profile(None, run.folder, print),
    )


def finished(study: Study, workdir: Path, config: Mapping[str, Any]) -> bool:
    """Returns whether all units of a config's run are done, and whole.

    It needs neither data nor devices.

    Raises:
      UserError: the config is wrong, or the folder holds another run.
    """
    spec = checked(study, config)
    done = _done(study, spec, workdir, _identity(study, config))
    return done is not None and len(done) == len(study.units(spec))


def _mend(study: Study, run: Run, units: Sequence[str]) -> list[str]:
    """Sets aside the units whose results are lost, to do them again; returns warnings.

    Raises:
      UserError: something else is where a unit's folder is to be.
    """
    run.check_places(units)
    warnings = []
    for name, reason in study.lost(run).items():
        run.unit(name).set_aside()
        warnings.append(f"{reason}; {name} is done again")
    return warnings + run_lib.lost_rows(run, units)


def _identity(
    study: Study, config: Mapping[str, Any], own: Mapping[str, str] | None = None
) -> identity.Identity:
    return identity.Identity(
        command=study.command, config=config, extendable=study.extendable, own=own
    )


def _own(config: Mapping[str, Any], prepared: Prepared, digest: str) -> dict[str, str]:
    """Returns key of the config → a digest of what it names, where that is a user's own."""
    data = {"data.source": digest} if named.is_own(config["data"]["source"]) else {}
    return {**prepared.own, **data}


def _slower(config: Mapping[str, Any]) -> list[str]:
    """Returns a warning if layers compute in bfloat16 on CPUs, whose products XLA converts."""
    keys = [key for key, value in config_lib.flatten(config).items() if value == "bfloat16"]
    if not keys or jax.default_backend() != "cpu":
        return []
    return [f"{keys[0]}=bfloat16 is mostly slower than float32 on a CPU"]


def _say_operation(reporter: Reporter, run: Run, profile: Profile) -> None:
    """Reports which share of the computed steps counts, and a profile that was not made."""
    if profile.missed:
        reporter.say(f"warning: {profile.missed}")
    run.add(run.folder / PROFILES)
    processes.wait_for_all("the work")
    if processes.first():
        meter.write(run, [])
        if line := operations.summary(run.folder, run.metrics):
            reporter.say(line)


def _say_mesh(reporter: Reporter, mesh: Mesh) -> None:
    """Reports which devices are used, and how many are idle."""
    idle = len(jax.devices()) - mesh.size
    reporter.say(f"mesh {dict(mesh.shape)}" + (f", {idle} devices idle" if idle else ""))
