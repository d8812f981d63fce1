"""The report's figures: to add one, write a function from a record to a figure and enter it in `FIGURES`.

A figure is data only; `plot.js` draws it. Its roles are colours of `COLOURS`. None leaves a figure out of the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hrsearch.front import hypervolume_growth, ranges_of
from hrsearch.pick import trained_of, value_of
from hrsearch.report.arms import compared
from hrsearch.report.headline import published, standing_out
from hrsearch.report.points import label_of
from hrsearch.report.words import shown
from hrsearch.study import Record, Trial

# role: (on light, on dark), after Okabe and Ito (2008): distinct for colour-blind eyes, too, and never the only sign
COLOURS = {
    "front": ("#0067b1", "#5db2f2"),
    "judged": ("#7b8897", "#7f8c99"),
    "published": ("#b34a08", "#f2a154"),
    "winner": ("#00704f", "#3fcfa4"),
}
Numbers = Sequence[float | None]


@dataclass(frozen=True)
class Scatter:
    """All trained trials in two columns of `hrsearch.report.points`, with the front of a view of theirs."""

    across: str
    up: str
    view: str = ""  # the study itself, or a target
    kind: str = "scatter"


@dataclass(frozen=True)
class Solid:
    """The same in three columns, to be turned."""

    axes: tuple[str, str, str]  # the last one stands upright
    view: str = ""
    kind: str = "solid"


@dataclass(frozen=True)
class Axis:
    """What an axis says, and how its numbers are written: score, ms, count, bytes, share, hours or plain."""

    label: str
    form: str
    log: bool = False


@dataclass(frozen=True)
class Trace:
    """A line, steps or points. None in `x` and `y` interrupts a line; points may name their trials."""

    role: str
    mode: str  # line, steps or points
    x: Numbers
    y: Numbers
    name: str = ""
    trials: Sequence[int] = ()


@dataclass(frozen=True)
class Chart:
    """Lines and points over two linear axes."""

    across: Axis
    up: Axis
    traces: Sequence[Trace]
    kind: str = "chart"


@dataclass(frozen=True)
class Series:
    """One bar for each place: its length as a share, and what it says."""

    role: str
    name: str
    shares: Sequence[float]
    texts: Sequence[str]


@dataclass(frozen=True)
class Bars:
    """Bars beside each other for each place."""

    title: str
    places: Sequence[str]
    series: Sequence[Series] = field(default_factory=tuple)
    kind: str = "bars"


Figure = Scatter | Solid | Chart | Bars


def front(record: Record) -> Figure | None:
    """The score against the first cost that is known; the page lets a person choose any other pair."""
    return _scatter(record, *([name for name in ("latency", "flops", "params", "memory") if _known(record, name)][:1]))


def front_in_space(record: Record) -> Figure | None:
    """The score over the first two costs that are known."""
    costs = [name for name in ("latency", "flops", "params", "memory") if _known(record, name)][:2]
    return Solid((costs[0], costs[1], "score")) if len(costs) == 2 and _known(record, "score") else None


def latency_against_flops(record: Record) -> Figure | None:
    """Latency against multiply-accumulates: FLOPs are not speed."""
    return _scatter(record, "flops", "latency")


def growth(record: Record) -> Figure | None:
    """The share of the box between the worst and the best values that the trials so far dominate."""
    numbers = [float(trial.number) for trial in record.trials]
    return _growth(record, list(record.trials), numbers, Axis("trial", "plain"))


def sampler_against_random(record: Record) -> Figure | None:
    """How the volume grows with candidates of the sampler, and with as many that were drawn at random."""
    found = compared(record)
    if found is None:
        return None
    numbers = [float(number) for number in range(1, found.count + 1)]
    lines = (
        ("front", "the sampler", found.sampler),
        ("judged", "random draws", found.random),
        ("front", "the sampler, lowest of 95 %", found.low),
        ("front", "the sampler, highest of 95 %", found.high),
    )
    traces = [Trace(role, "line", numbers, shares.tolist(), title) for role, title, shares in lines]
    return Chart(Axis("candidates", "count"), Axis("hypervolume", "share"), traces)


def growth_in_time(record: Record) -> Figure | None:
    """The same against the hours since the search began; pauses count."""
    ended = [trial for trial in record.trials if trial.finished and trial.started]
    if not ended:
        return None
    begin = min(trial.started for trial in ended if trial.started)
    hours = [(trial.finished - begin).total_seconds() / 3600 for trial in ended if trial.finished]
    order = sorted(range(len(ended)), key=hours.__getitem__)
    return _growth(record, [ended[i] for i in order], [hours[i] for i in order], Axis("hours since the start", "hours"))


def scores(record: Record) -> Figure | None:
    """The share of candidates below each score: the steeper on the right, the better the space."""
    drawn = [trial for trial in trained_of(record) if not trial.attributes.get("known")]
    found = sorted(value for trial in drawn if (value := value_of(trial, "score")) is not None)
    if len(found) < 2:
        return None
    shares = [(index + 1) / len(found) for index in range(len(found))]
    traces = [Trace("front", "steps", [found[0], *found], [0.0, *shares], "candidates")]
    for known in published(record):
        score = value_of(known, "score")
        if score is not None:
            traces.append(Trace("published", "line", [score, score], [0.0, 1.0], known.name))
    return Chart(Axis(label_of(record, "score"), "score"), Axis("share of the candidates", "share"), traces)


def rungs(record: Record) -> Figure | None:
    """The score of every candidate after each rung: who went on, and who was let go."""
    groups: dict[str, list[Trial]] = {"judged": [], "front": [], "published": []}
    for trial in record.trials:
        if any(score["steps"] for score in trial.attributes.get("rungs") or ()):
            role = "front" if trial.state == "trained" else "judged"
            groups["published" if trial.attributes.get("known") else role].append(trial)
    if not any(len(trial.attributes["rungs"]) > 1 for group in groups.values() for trial in group):
        return None
    names = {"judged": "went no further", "front": "trained in full", "published": "published network"}
    traces = [trace for role, group in groups.items() if group for trace in _curves(role, names[role], group)]
    return Chart(Axis("steps of training", "count"), Axis(label_of(record, "score"), "score"), traces)


def bill_of_published(record: Record) -> Figure | None:
    """Where the FLOPs and the milliseconds of the first published network go."""
    return _bill(next(iter(published(record)), None))


def bill_of_knee(record: Record) -> Figure | None:
    """The same of the winner that gives most of everything."""
    return _bill(standing_out(record).get("knee"))


FIGURES: dict[str, Callable[[Record], Figure | None]] = {
    "front": front,
    "front_in_space": front_in_space,
    "latency_against_flops": latency_against_flops,
    "growth": growth,
    "sampler_against_random": sampler_against_random,
    "growth_in_time": growth_in_time,
    "scores": scores,
    "rungs": rungs,
    "bill_of_published": bill_of_published,
    "bill_of_knee": bill_of_knee,
}


def growth_of(record: Record, trials: Sequence[Trial] | None = None) -> list[float]:
    """The dominated share after each trial, by number; trials that may not stand on the front add nothing."""
    directions = [objective.direction for objective in record.objectives]
    contenders = {trial.number for trial in record.contenders}
    points = [
        [float("nan") if value is None or trial.number not in contenders else value for value in trial.values]
        for trial in (record.trials if trials is None else trials)
    ]
    return hypervolume_growth(points, directions, ranges_of(points, directions))


def _growth(record: Record, trials: list[Trial], across: list[float], axis: Axis) -> Figure | None:
    if not record.trained or len(trials) < 2:
        return None
    shares = growth_of(record, trials)
    before = [0.0, *shares[:-1]]
    grown = [index for index, (old, new) in enumerate(zip(before, shares, strict=True)) if new > old]
    corners = sorted({0, len(trials) - 1, *grown})
    line = Trace("front", "steps", [across[i] for i in corners], [shares[i] for i in corners])
    numbers = [trials[i].number for i in grown]
    marks = Trace("front", "points", [across[i] for i in grown], [shares[i] for i in grown], trials=numbers)
    return Chart(axis, Axis("hypervolume", "share"), [line, marks])


def _curves(role: str, name: str, trials: Sequence[Trial]) -> list[Trace]:
    """One line with gaps for all trials, and a point at every last rung."""
    scores = ([score for score in trial.attributes["rungs"] if score["steps"]] for trial in trials)
    curves = [[(score["steps"], score["value"]) for score in curve] for curve in scores]
    x = [step for curve in curves for step in (*(step for step, _ in curve), None)]
    y = [value for curve in curves for value in (*(value for _, value in curve), None)]
    ends = [curve[-1] for curve in curves]
    numbers = [trial.number for trial in trials]
    marks = Trace(role, "points", [step for step, _ in ends], [value for _, value in ends], name, numbers)
    return [Trace(role, "line", x, y), marks]


def _bill(trial: Trial | None) -> Figure | None:
    """Two bars for each place of a network: its share of the FLOPs and of the milliseconds."""
    if trial is None or not trial.attributes.get("ms_by_place") or not trial.attributes.get("flops_by_place"):
        return None
    places = list(trial.attributes["ms_by_place"])
    series = []
    for title, role, attribute, name in (
        ("FLOPs", "judged", "flops_by_place", "flops"),
        ("milliseconds", "front", "ms_by_place", "latency"),
    ):
        found = trial.attributes[attribute]
        whole = sum(found.values()) or 1.0
        values = [found.get(place, 0.0) for place in places]
        series.append(Series(role, title, [value / whole for value in values], [shown(name, v) for v in values]))
    return Bars(f"share of {trial.name}", places, series)


def _scatter(record: Record, across: str | None = None, up: str = "score") -> Figure | None:
    both = across and any(None not in (value_of(t, across), value_of(t, up)) for t in trained_of(record))
    return Scatter(across, up) if across and both else None


def _known(record: Record, name: str) -> bool:
    return any(value_of(trial, name) is not None for trial in trained_of(record))
