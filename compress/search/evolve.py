"""Proposes the next choice, by Optuna's samplers, from what the earlier ones came to.

Optuna, since its NSGA-II and its multi-objective TPE take categories and integers side by side,
are asked and told one candidate at a time, and can be told a history. pymoo has NSGA-II as well,
but whole generations at once and arrays of one type. Nothing of Optuna's is stored: for each
candidate a new study is told all earlier ones, and a sampler that is seeded by (seed, number)
proposes the next, so that a run which was killed goes on bit for bit.

`pip install -r requirements-search.txt` installs it. No other part of the project needs it.
"""

import functools
import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.search.history import Candidate, changed
from compress.search.options import Space
from compress.search.settings import Choice, Setting
from groundwork.errors import UserError

SAMPLERS = ("nsga2", "tpe", "random")
TRIES = 100  # proposals that may be known or refused before one is taken all the same

Values = tuple[Any, ...]


def check_installed() -> None:
    """Refuses a search where Optuna is not installed.

    Raises:
      UserError: it is not.
    """
    _optuna()


def knobs(space: Space) -> dict[str, Values]:
    """Returns name → its values, of what can be turned: `conv1 density`, for example.

    What changes a layer's shapes is one knob, `conv1 form`, whose values are (units, rank, method).
    Knobs with a single value are left out. So are float32 weights where a layer may have others:
    they are on no front, and a layer without codebooks is trained by another program.
    """
    found: dict[str, list[Any]] = {}
    for layer, options in space.options.items():
        for option in options:
            for name, value in _turned(layer, option).items():
                values = found.setdefault(name, [])
                values += [] if value in values else [value]
    for name, values in found.items():
        if name.endswith(" bits") and len(values) > 1 and 0 in values:
            values.remove(0)
    ordered = {n: v if n.endswith(" form") else sorted(v, key=_order) for n, v in found.items()}
    return {name: tuple(values) for name, values in ordered.items() if len(values) > 1}


def propose(
    space: Space,
    history: Sequence[Candidate],
    objectives: Callable[[Candidate], Sequence[float]],
    *,
    sampler: str,
    population: int,
    seed: int,
    allowed: Callable[[Choice], bool] = lambda choice: True,
    screened: int = 1,
    worse: Callable[[Choice], float] = lambda choice: 0.0,
) -> Choice:
    """Returns a choice of the space that has not been evaluated.

    Args:
      space: of all choices.
      history: all earlier candidates; those that failed are told as failures.
      objectives: what is minimised.
      sampler: one of `SAMPLERS`.
      population: of a generation of `nsga2`; also the candidates before `tpe` looks at them.
      seed: of the run.
      allowed: refuses choices that are not worth an evaluation. If `TRIES` proposals are refused or
        known, a random one is taken that is not known, if there is one.
      screened: how many proposals are looked at.
      worse: of them, that for which this is least is returned; the first of equals.

    Raises:
      UserError: Optuna is not installed.
    """
    turned, known = knobs(space), [changed(one.choice) for one in history]
    ask = _asked(turned, history, objectives, sampler, population)
    offered: list[Choice] = []
    for attempt in range(2 * TRIES):
        seeds = np.random.SeedSequence([seed, len(history), attempt])
        point = ask(seeds) if attempt < TRIES else _drawn(turned, seeds)
        choice = assembled(space, turned, point)
        if choice in known or choice in offered or not _fits(space, choice):
            continue
        if attempt >= TRIES or allowed(choice):
            offered.append(choice)
        if len(offered) >= screened or (offered and attempt >= TRIES):
            break
    return min(offered, key=worse, default=choice)


def assembled(space: Space, turned: Mapping[str, Values], point: Mapping[str, int]) -> Choice:
    """Returns the choice at which each knob has the value of this number.

    Where a layer has no such option, it gets the one of its options that differs in the fewest
    knobs, the first of them.
    """
    choice = {}
    for layer, options in space.options.items():
        wanted = {n: v[point[n]] for n, v in turned.items() if n.rpartition(" ")[0] == layer}
        fields = _turned(layer, options[-1]) | wanted

        def differs(option: Setting, layer: str = layer, fields: Any = fields) -> int:
            return sum(fields[n] != value for n, value in _turned(layer, option).items())

        choice[layer] = min(options, key=differs)
    return changed(choice)


def _turned(layer: str, option: Setting) -> dict[str, Any]:
    return {
        f"{layer} form": (option.units, option.rank, option.method),
        f"{layer} density": option.density,
        f"{layer} bits": option.bits,
        f"{layer} activation_bits": option.activation_bits,
    }


def _order(value: float) -> float:
    return value or math.inf  # 0 bits are those of float32


def _fits(space: Space, choice: Choice) -> bool:
    try:
        space.check(choice)
    except ValueError:
        return False
    return True


def _drawn(turned: Mapping[str, Values], seeds: np.random.SeedSequence) -> dict[str, int]:
    rng = np.random.default_rng(seeds)
    return {name: int(rng.integers(len(values))) for name, values in turned.items()}


def _asked(
    turned: Mapping[str, Values],
    history: Sequence[Candidate],
    objectives: Callable[[Candidate], Sequence[float]],
    sampler: str,
    population: int,
) -> Callable[[np.random.SeedSequence], dict[str, int]]:
    """Returns a function of a seed: the number of a value of each knob, after this history."""
    if sampler == "random":
        return functools.partial(_drawn, turned)
    optuna = _optuna()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    failed = optuna.trial.TrialState.FAIL
    kinds = {
        name: optuna.distributions.CategoricalDistribution(list(range(len(values))))
        if name.endswith(" form")
        else optuna.distributions.IntDistribution(0, len(values) - 1)
        for name, values in turned.items()
    }

    def seeded(seed: int) -> Any:
        if sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=population, seed=seed)
        return optuna.samplers.TPESampler(n_startup_trials=population, seed=seed)

    count = max((len(objectives(one)) for one in history if one.judged), default=2)
    # NSGA-II notes the generation of each trial when it is asked; for TPE nothing is to be noted.
    told = seeded(0) if sampler == "nsga2" else optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["minimize"] * count, sampler=told)
    for one in history:
        study.enqueue_trial(_point(turned, one.choice))
        trial = study.ask(kinds)
        study.tell(trial, **({"values": objectives(one)} if one.judged else {"state": failed}))

    def ask(seeds: np.random.SeedSequence) -> dict[str, int]:
        study.sampler = seeded(int(seeds.generate_state(1)[0]))
        trial = study.ask(kinds)
        study.tell(trial, state=failed)  # it is told by the next candidate's history
        return trial.params

    return ask


def _point(turned: Mapping[str, Values], choice: Choice) -> dict[str, int]:
    """Returns the number of the value that a choice gives each knob."""
    point = {}
    for name, values in turned.items():
        layer = name.rpartition(" ")[0]
        value = _turned(layer, choice.get(layer, Setting()))[name]
        point[name] = values.index(value) if value in values else len(values) - 1
    return point


def _optuna() -> Any:
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise UserError(
            "the search needs Optuna: pip install -r requirements-search.txt, or "
            "pip install 'compression-and-dynamic-networks[search]'"
        ) from error
