"""The trust card: how well the proxy's order of networks tells their order after long training, and what else would."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hrsearch.objective import LIKELIHOOD, objective_of, task_metric
from hrsearch.ranking import Estimate, Values, drawn_weights, estimate, kendall_tau, partial_tau, recall, regret
from hrsearch.study import Record, Trial
from hrsearch.trust.repeats import CALIBRATION, Scores, lengths_of, rungs_of, scores_of, zero_cost_of

FEWEST = 4  # networks of which an order can be judged
TRUSTED = 10  # and of which an interval can: of 120 orders by chance 27 seemed sure with 6 networks, 3 with 12
TRIVIAL = {"params": "params", "flops": "FLOPs", "latency": "latency"}
AGAIN = "as long, another seed"
UNTOLD = (None, None, None)  # tau, recall and regret of too few networks
Verdict = Literal["green", "amber", "red"]


@dataclass(frozen=True)
class Row:
    """How well one order tells that of long training. Intervals are None where it cannot be told."""

    name: str
    networks: int
    tau: Estimate | None  # Kendall's
    tau_top: Estimate | None  # among the best quarter by the proxy's score
    recall: Estimate  # share of the truly best that are among the best of this order
    regret: Estimate  # score lost by taking the first of this order
    recall_top: Estimate | None  # the same two among the best quarter
    regret_top: Estimate | None
    adds: Estimate | None = None  # of the proxy: Kendall's partial tau beyond the best trivial baseline
    beyond: str = ""  # which that is


@dataclass(frozen=True)
class Card:
    """What the long trainings of a study say of its proxy."""

    study: str
    metric: str
    times: int  # the proxy's steps
    steps: int
    seeds: tuple[int, int]  # of a network: the fewest and the most
    networks: int  # that were trained long
    population: int  # of the study that they stand for
    top: int  # of the networks: from the population's best quarter by the proxy's score
    best: int  # how many the recall asks for
    best_top: int  # and among the best quarter
    proxy: tuple[Row, ...]  # rung by rung
    baselines: tuple[Row, ...]  # the trivial ones, zero-cost proxies, then a second long training
    verdict: Verdict

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        row = next((row for row in self.proxy if verdict_of(row) == self.verdict), None)
        if row is None:
            return (
                f"No rung has judged {FEWEST} of these {self.networks} networks: more networks (-k) will tell an order."
            )
        if row.adds is None and not row.beyond:
            return f"These {self.networks} networks end alike: there is no order that a proxy could tell."
        if row.adds is None:
            return (
                f"The {row.name} can add nothing to {row.beyond}: that orders these {row.networks} networks "
                "completely, or the proxy's follows it to the letter or is all ties."
            )
        size = f"at equal {row.beyond}, Kendall tau {_shown(row.adds)}"
        if self.verdict == "green":
            return f"The {row.name} tells more than {row.beyond}, the best trivial baseline: {size}."
        if self.verdict == "amber":
            return (
                f"{row.networks} networks do not show that the {row.name} tells more than {row.beyond}, the best "
                f"trivial baseline: {size}. More networks (-k) will."
            )
        by_score = row is self.proxy[-1]
        told = "Do not trust this front's scores" if by_score else "It chooses no better who goes on from there"
        return (
            f"The {row.name} adds nothing to {row.beyond}, the best trivial baseline: {size}. "
            f"{told}; give the {'proxy more steps or larger images' if by_score else 'rung more steps'}."
        )


@dataclass(frozen=True)
class _Sample:
    """The networks that were trained long: the best quarter's first."""

    trials: tuple[Trial, ...]
    truth: Values
    weights: Values  # how many networks of the study each stands for
    top: int  # how many of them are of the best quarter
    best: int  # how many a choice should find
    best_top: int  # and one among the best quarter

    def only(self, places: Sequence[int]) -> "_Sample":
        """Some of them."""
        index = list(places)
        return replace(
            self,
            trials=tuple(self.trials[place] for place in places),
            truth=self.truth[index],
            weights=self.weights[index],
            top=sum(place < self.top for place in places),
            best=max(len(index) // 4, 1),
            best_top=max(sum(place < self.top for place in places) // 4, 1),
        )

    @property
    def groups(self) -> tuple[range, range]:
        """Places of the best quarter's and of the others: each is drawn from by itself."""
        return range(self.top), range(self.top, len(self.trials))


def card_of(record: Record, times: int | None = None) -> Card | None:
    """The card of the study's longest trainings, or of those of `times` the proxy's steps; None before there are 4.

    Networks that stand for more of the study count for more in Kendall's tau.
    """
    lengths = [times] if times else reversed(lengths_of(record, CALIBRATION))
    found = ((length, scores_of(record, CALIBRATION, length)) for length in lengths)
    enough = ((length, scores, _sample(record, scores)) for length, scores in found)
    return next((_card(record, *each) for each in enough if len(each[2].trials) >= FEWEST), None)


def _card(record: Record, times: int, scores: Mapping[int, Scores], sample: _Sample) -> Card:
    proxy = tuple(_proxy_rows(record, sample))
    found = [verdict_of(row) for row in proxy]
    some = next(iter(scores[sample.trials[0].number].values()))
    seeds = [len(scores[trial.number]) for trial in sample.trials]
    return Card(
        record.name,
        task_metric(some)[0],
        times,
        int(some.get("steps", 0)),
        (min(seeds), max(seeds)),
        len(sample.trials),
        sum(map(len, quarters(record))),
        sample.top,
        sample.best,
        sample.best_top,
        proxy,
        (*_baselines(record, sample), *_again(sample, scores)),
        "red" if "red" in found else "amber" if "amber" in found or not found else "green",
    )


def quarters(record: Record) -> tuple[list[Trial], list[Trial]]:
    """The best quarter of the study's drawn networks by the proxy's score, and the rest, the best first.

    With rungs, those that went further come before those that were let go. Published networks are not of the study.
    """
    judged = [trial for trial in record.trials if trial.state in ("trained", "stopped") and rungs_of(trial)]
    drawn = [trial for trial in judged if not trial.attributes.get("known")]
    reached = {trial.number: max(rungs_of(trial)) for trial in drawn}
    ordered = sorted(
        drawn,
        key=lambda trial: (-reached[trial.number], -_quality(record, trial, reached[trial.number]), trial.number),
    )
    quarter = -(-len(ordered) // 4)
    return ordered[:quarter], ordered[quarter:]


def stood_for(record: Record, chosen: Collection[int]) -> dict[int, float]:
    """How many networks of the study each of the chosen trials stands for: those of its quarter, or of the rest, that
    come to one of them."""
    found: dict[int, float] = {}
    for whole in quarters(record):
        part = [trial.number for trial in whole if trial.number in chosen]
        found |= dict.fromkeys(part, len(whole) / max(len(part), 1))
    return found


def verdict_of(row: Row) -> Verdict:
    """Of a row of the proxy: green where it surely adds to the best trivial baseline, red where it adds nothing.

    Amber where networks are too few to say, so few that not even an interval can be told among them or trusted.
    """
    if row.adds is None:
        return "red" if row.beyond else "amber"
    if row.adds.low is None:
        return "amber"
    if row.adds.low > 0 and row.networks >= TRUSTED:
        return "green"
    return "amber" if row.adds.value > 0 else "red"


def _sample(record: Record, scores: Mapping[int, Scores]) -> _Sample:
    parts = [[trial for trial in part if trial.number in scores] for part in quarters(record)]
    trials = tuple(trial for part in parts for trial in part)
    truth = [np.mean([task_metric(one)[1] for one in scores[trial.number].values()]) for trial in trials]
    standing = stood_for(record, scores)
    weights = [standing[trial.number] for trial in trials]
    best, best_top = (max(len(some) // 4, 1) for some in (trials, parts[0]))
    return _Sample(trials, np.array(truth), np.array(weights), len(parts[0]), best, best_top)


def _proxy_rows(record: Record, sample: _Sample) -> Iterator[Row]:
    """A row for every rung, of the networks that were judged at it."""
    rungs = max(max(rungs_of(trial)) for trial in sample.trials) + 1
    for rung in range(rungs):
        judged = [place for place, trial in enumerate(sample.trials) if rung in rungs_of(trial)]
        if len(judged) < FEWEST:  # a later one may have more: of what was taken over only the last is known
            continue
        part = sample.only(judged)
        told = rungs_of(part.trials[0])[rung]
        what = "loss" if _is_by_loss(record, rung) else LIKELIHOOD if told.get("metric") == LIKELIHOOD else "score"
        steps = told.get("steps", 0)
        name = f"{what} after {steps:,} steps" if steps else f"{told.get('metric')}, untrained"
        name += f" (rung {rung})" if rungs > 1 else ""
        values = np.array([_quality(record, trial, rung) for trial in part.trials])
        row, choice = _row(name, values, part, _strongest(part)), _row(name, _ahead(values, judged, sample), sample)
        found = {each: getattr(choice, each) for each in ("recall", "regret", "recall_top", "regret_top")}
        yield replace(row, **found)


def _ahead(values: Values, judged: Sequence[int], sample: _Sample) -> Values:
    """Of a choice among all: those that were not judged at the rung come after, who went further before the others."""
    found: Values = values.min() - 1.0 - np.arange(len(sample.trials), dtype=np.float64)
    found[list(judged)] = values
    return found


def _quality(record: Record, trial: Trial, rung: int) -> float:
    """What the search compares the trial by at the rung, or forecasts from first of all; more is better."""
    known = rungs_of(trial)[rung]
    return -float(known["loss"]) if _is_by_loss(record, rung) else float(known["value"])


def _is_by_loss(record: Record, rung: int) -> bool:
    """Whether the loss told who went on there; at the last rung it is the score."""
    runner = record.attributes.get("runner") or {}
    proxy = runner.get("proxy", {})
    last = len(proxy.get("rungs") or ()) + bool(proxy.get("screen"))
    return rung < last and runner.get("search", {}).get("rungs_by", "score") in ("loss", "gain")


def _baselines(record: Record, sample: _Sample) -> Iterator[Row]:
    yield from _by_metric(sample)
    for name, title in TRIVIAL.items():
        values = _costs(sample, name)
        if values is not None:
            yield _row(title, values, sample)
    yield _at_random(sample)
    for name, known in zero_cost_of(record).items():
        places = [place for place, trial in enumerate(sample.trials) if trial.number in known]
        if len(places) >= FEWEST:
            part = sample.only(places)
            yield _row(name, np.array([known[trial.number] for trial in part.trials]), part)


def _by_metric(sample: _Sample) -> Iterator[Row]:
    """What the task's metric tells, where the score is the likelihood."""
    last = max(max(rungs_of(trial)) for trial in sample.trials)
    judged = [place for place, trial in enumerate(sample.trials) if last in rungs_of(trial)]
    scores = [rungs_of(sample.trials[place])[last] for place in judged]
    if len(judged) >= FEWEST and all(score.get("metric") == LIKELIHOOD for score in scores):
        values = np.array([task_metric(score)[1] for score in scores])
        yield _row(f"{task_metric(scores[0])[0]} after {scores[0]['steps']:,} steps", values, sample.only(judged))


def _at_random(sample: _Sample) -> Row:
    """What any order at all would tell, on average."""
    tau, found, lost = _of_chance(sample.truth, sample.best)
    is_told = sample.top >= FEWEST
    top = _of_chance(sample.truth[: sample.top], sample.best_top) if is_told else UNTOLD
    tau_top, found_top, lost_top = top
    return Row("at random", len(sample.trials), tau, tau_top, found, lost, found_top, lost_top)


def _of_chance(truth: Values, count: int) -> tuple[Estimate, Estimate, Estimate]:
    return Estimate(0.0), Estimate(count / len(truth)), Estimate(float(truth.max() - truth.mean()))


def _strongest(sample: _Sample) -> tuple[str, Values] | None:
    """The trivial baseline that tells most of the order, whichever way round, and its values."""
    found = [(title, values) for name, title in TRIVIAL.items() if (values := _costs(sample, name)) is not None]
    taus = [abs(kendall_tau(values, sample.truth, sample.weights)) for _, values in found]
    told = [place for place, tau in enumerate(taus) if np.isfinite(tau)]
    return found[max(told, key=lambda place: taus[place])] if told else None


def _costs(sample: _Sample, name: str) -> Values | None:
    values = [objective_of(name).of(trial.attributes) for trial in sample.trials]
    return np.array(values, dtype=float) if None not in values else None


def _row(name: str, values: Values, sample: _Sample, against: tuple[str, Values] | None = None) -> Row:
    tau, found, lost = _figures(values, sample, sample.groups, sample.best)
    is_told = sample.top >= FEWEST
    top = _figures(values, sample, [range(sample.top)], sample.best_top) if is_told else UNTOLD
    tau_top, found_top, lost_top = top
    adds = _told(partial(_partial_tau, values, against[1], sample), sample.groups) if against else None
    beyond = against[0] if against else ""
    return Row(name, len(sample.trials), tau, tau_top, found, lost, found_top, lost_top, adds, beyond)


def _figures(
    values: Values, sample: _Sample, groups: Sequence[Sequence[int]], count: int
) -> tuple[Estimate | None, Estimate, Estimate]:
    """Kendall's tau, the recall of the best `count` and the regret, of the networks in these groups."""
    truth = sample.truth
    return (
        _told(partial(_tau, values, sample), groups),
        estimate(lambda drawn: recall(values[drawn], truth[drawn], count), groups),
        estimate(lambda drawn: regret(values[drawn], truth[drawn]), groups),
    )


def _told(figure: "partial[float]", groups: Sequence[Sequence[int]]) -> Estimate | None:
    found = estimate(figure, groups)
    return found if np.isfinite(found.value) else None


def _tau(values: Values, sample: _Sample, drawn: NDArray[np.int64]) -> float:
    once, weights = drawn_weights(drawn, sample.weights)
    return kendall_tau(values[once], sample.truth[once], weights)


def _partial_tau(values: Values, given: Values, sample: _Sample, drawn: NDArray[np.int64]) -> float:
    once, weights = drawn_weights(drawn, sample.weights)
    return partial_tau(values[once], sample.truth[once], given[once], weights)


def _again(sample: _Sample, scores: Mapping[int, Scores]) -> Iterator[Row]:
    """What the long training with one seed tells of that with another, where each network has two."""
    pairs = [[task_metric(one)[1] for one in scores[trial.number].values()][:2] for trial in sample.trials]
    if min(map(len, pairs)) > 1:
        one, other = np.array(pairs, dtype=float).T
        yield _row(AGAIN, other, replace(sample, truth=one))


def _shown(one: Estimate) -> str:
    interval = f" ({one.low:.2f} to {one.high:.2f})" if one.low is not None and one.high is not None else ""
    return f"{one.value:.2f}{interval}"
