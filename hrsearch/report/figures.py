"""The report's figures: to add one, write a function from a record to a figure and enter it in `FIGURES`.

A figure is data only; `plot.js` draws it. Its roles are colours of `COLOURS`. None leaves a figure out of the page.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from hrsearch.front import Range, hypervolume_growth, ranges_of
from hrsearch.pick import trained_of, value_of
from hrsearch.report.arms import FEWEST, arms_of, compared
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
RUNG_ROLES = {"judged": "not on the front", "front": "on the front", "published": "published network"}
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
    """A line, steps, points or a band. None in `x` and `y` interrupts a line; points may name their trials.

    A band is an area: its lower edge from left to right, its upper one from right to left.
    """

    role: str
    mode: str  # line, steps, points or band
    x: Numbers
    y: Numbers
    name: str = ""
    trials: Sequence[int] = ()
    dashed: bool = False


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
    if not record.trained or len(record.trials) < 2:
        return None
    numbers = [float(trial.number) for trial in record.trials]
    traces = _stairs(record.trials, [numbers[0], *numbers], [0.0, *growth_of(record)], "front", "", False)
    return Chart(Axis("trial", "plain"), Axis("hypervolume", "share"), traces)


def sampler_against_random(record: Record) -> Figure | None:
    """How the volume grows with candidates of the sampler, and with as many that were drawn at random."""
    found = compared(record)
    if found is None:
        return None
    numbers = [float(number) for number in range(1, found.count + 1)]
    edges = [*found.low.tolist(), *found.high.tolist()[::-1]]
    traces = [
        Trace("front", "band", [*numbers, *numbers[::-1]], edges, "95 % of the sampler's"),
        Trace("front", "line", numbers, found.sampler.tolist(), "the sampler"),
        Trace("judged", "line", numbers, found.random.tolist(), "random draws", dashed=True),
    ]
    return Chart(Axis("candidates", "count"), Axis("hypervolume", "share"), traces)


def growth_in_time(record: Record) -> Figure | None:
    """The same of each arm against the hours that judging its candidates took, one after the other."""
    sampled, at_random = ([trial for trial in arm if seconds_of(trial)] for arm in arms_of(record))
    if not record.trained or len(sampled) < 2:
        return None
    ranges = ranges_of(_points(record, [*sampled, *at_random]), _directions(record))
    traces = _timed(record, sampled, ranges, "the sampler", False)
    if len(at_random) >= FEWEST:
        traces += _timed(record, at_random, ranges, "random draws", True)
    return Chart(Axis("hours of judging", "hours"), Axis("hypervolume", "share"), traces)


def scores(record: Record) -> Figure | None:
    """The share of candidates below each score after equal training: random draws show the space, others the search."""
    sampled, at_random = ([score for t in arm if (score := early_score(t)) is not None] for arm in arms_of(record))
    if len(sampled) < 2:
        return None
    traces = [_shares_below("front", "the sampler's", sampled)]
    if len(at_random) >= FEWEST:
        traces.append(_shares_below("judged", "random draws", at_random, dashed=True))
    for known in published(record):
        score = early_score(known)
        if score is not None:
            traces.append(Trace("published", "line", [score, score], [0.0, 1.0], known.name))
    return Chart(Axis(label_of(record, "score"), "score"), Axis("share of the candidates", "share"), traces)


def early_score(trial: Trial) -> float | None:
    """The score after the first rung that trains, where all are alike; without rungs that of full training."""
    known = [*(trial.attributes.get("rungs") or ()), trial.attributes.get("score") or {}]
    score = next((one["value"] for one in known if one.get("value") is not None and one.get("steps", 1)), None)
    return score if score is not None and math.isfinite(score) else None


def seconds_of(trial: Trial) -> float:
    """Seconds that judging it took, all rungs together; 0 where nothing is known of it."""
    seconds = trial.attributes.get("seconds")
    if seconds is None and trial.started and trial.finished:
        return (trial.finished - trial.started).total_seconds()
    return float(seconds or 0.0)


def rungs(record: Record) -> Figure | None:
    """The score of every candidate after each rung, those of the front above the others."""
    front = {trial.number for trial in record.front()}
    groups: dict[str, list[Trial]] = {role: [] for role in RUNG_ROLES}
    for trial in record.trials:
        if any(score["steps"] for score in trial.attributes.get("rungs") or ()):
            role = "front" if trial.number in front else "judged"
            groups["published" if trial.attributes.get("known") else role].append(trial)
    if not any(len(trial.attributes["rungs"]) > 1 for group in groups.values() for trial in group):
        return None
    traces = [trace for role, group in groups.items() if group for trace in _curves(role, RUNG_ROLES[role], group)]
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


def growth_of(record: Record) -> list[float]:
    """The dominated share after each trial, by number; trials that may not stand on the front add nothing."""
    points = _points(record, record.trials)
    return hypervolume_growth(points, _directions(record), ranges_of(points, _directions(record)))


def _points(record: Record, trials: Sequence[Trial]) -> list[list[float]]:
    contenders = {trial.number for trial in record.contenders}
    return [
        [math.nan if value is None or trial.number not in contenders else value for value in trial.values]
        for trial in trials
    ]


def _directions(record: Record) -> list[str]:
    return [objective.direction for objective in record.objectives]


def _timed(record: Record, trials: list[Trial], ranges: Sequence[Range], name: str, dashed: bool) -> list[Trace]:
    shares = hypervolume_growth(_points(record, trials), _directions(record), ranges)
    hours = list(accumulate(seconds_of(trial) / 3600 for trial in trials))
    return _stairs(trials, [0.0, *hours], [0.0, *shares], "judged" if dashed else "front", name, dashed)


def _stairs(trials: Sequence[Trial], x: list[float], y: list[float], role: str, name: str, dashed: bool) -> list[Trace]:
    """Steps from a beginning that no trial has, and a point wherever a trial has added something."""
    grown = [index for index in range(1, len(x)) if y[index] > y[index - 1]]
    corners = sorted({0, len(x) - 1, *grown})
    line = Trace(role, "steps", [x[i] for i in corners], [y[i] for i in corners], name, dashed=dashed)
    numbers = [trials[i - 1].number for i in grown]
    return [line, Trace(role, "points", [x[i] for i in grown], [y[i] for i in grown], name, numbers)]


def _shares_below(role: str, name: str, found: Sequence[float], dashed: bool = False) -> Trace:
    ordered = sorted(found)
    shares = [(index + 1) / len(ordered) for index in range(len(ordered))]
    return Trace(role, "steps", [ordered[0], *ordered], [0.0, *shares], name, dashed=dashed)


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
