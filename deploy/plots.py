"""The figures of a run: each function draws a PNG from results and returns its caption."""

from pathlib import Path

from deploy import tables
from deploy.results import Results, Time
from groundwork.report import figures

MARKERS = "osD^vP*Xh<>"  # of networks


def quality(run: Results, batch: int, threads: int, path: Path) -> tuple[Path, str]:
    """Draws the metric on test against milliseconds: a colour per engine and kind."""
    figure, (ax,) = figures.subplots(width=6.2, height=3.8)
    points = [
        (place, network, one)
        for place, network in enumerate(run.networks)
        for one in network.times
        if (one.batch, one.threads) == (batch, threads) and one in _timed(network.times)
    ]
    colours = figures.colours("tab10")
    kinds = list(dict.fromkeys(one.name for _, _, one in points))
    for place, network, one in points:
        answer = network.answers.get((one.engine, one.kind))
        if answer is None or not answer.values:
            continue
        low, median, high = one.measured.milliseconds
        colour = colours(kinds.index(one.name) % 10)
        ax.errorbar(
            median,
            answer.values[-1],
            xerr=[[median - low], [high - median]],
            color=colour,
            marker=MARKERS[place % len(MARKERS)],
            mfc="white" if one.kind == "float" else colour,
            ms=5,
            capsize=2,
            linestyle="none",
        )
    for number, kind in enumerate(kinds):
        colour = colours(number % 10)
        inside = "white" if kind.endswith("float") else colour
        ax.plot([], [], "s", color=colour, mfc=inside, label=figures.plain(kind))
    names = figures.short([network.name for network in run.networks])
    if len(names) > 1:
        for place, name in enumerate(names):
            ax.plot([], [], MARKERS[place % len(MARKERS)], color="black", mfc="none", label=name)
    figures.cost_axis(ax)
    where = f"{tables.examples(batch)}, {tables.threads(threads)}"
    ax.set_xlabel(f"milliseconds of a call ({where})")
    ax.set_ylabel(f"test {run.metric.words}")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    caption = (
        f"{run.metric.title} of each engine's own outputs on the test split against the median "
        f"time of a call (bars: quartiles). {_shapes(run)}Hollow markers are networks of floats."
    )
    return figures.save(figure, path), caption


def settings(run: Results) -> list[tuple[int, int]]:
    """Returns the examples of a call and the threads for which there are times, in order."""
    found: set[tuple[int, int]] = {
        (one.batch, one.threads) for network in run.networks for one in _timed(network.times)
    }
    return sorted(found)


def _timed(times: list[Time]) -> list[Time]:
    return [one for one in times if one.measured.milliseconds and not one.measured.failure]


def _shapes(run: Results) -> str:
    return "Colours are engines, shapes are networks. " if len(run.networks) > 1 else ""
