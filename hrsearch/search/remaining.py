"""How long a search will go on, from what its candidates have taken so far at each rung."""

import statistics

from pydantic import ValidationError

from hrsearch.runner import Runner, trunk_of
from hrsearch.search.clock import covered, spans_of
from hrsearch.search.verdict import is_spent
from hrsearch.study import Record, Trial


def seconds_left(record: Record, workers: int) -> float | None:
    """Seconds until the study's budget or its hours are spent; None where nothing tells that.

    `workers` are those that are seen to run: one that has just ended is not, so what was judged in which time counts,
    too. Published networks come first and are not like the others: those that still train are left out.
    """
    searched, found = searched_seconds(record), []
    if record.attributes.get("hours"):
        found.append(record.attributes["hours"] * 3600 - searched)
    work = seconds_of_work(record)
    if work is not None:
        judged = sum(float(trial.attributes.get("seconds") or 0.0) for trial in record.trials)
        found.append(work / max(workers, round(judged / searched) if searched else 0, 1))
    return max(min(found), 0.0) if found else None


def is_over(record: Record) -> bool:
    """Whether nothing runs any more and the hours are spent, or the budget, and nothing waits that may be sent on; or
    whether the space holds no other network.

    What waits at a rung when the hours are spent goes on waiting.
    """
    budget, hours = record.attributes.get("budget"), record.attributes.get("hours")
    states = {trial.state for trial in record.trials}
    if "running" in states:
        return False
    if record.attributes.get("is_exhausted") or (hours is not None and searched_seconds(record) >= hours * 3600):
        return True
    done = sum(is_spent(trial.attributes) for trial in record.trials)
    return budget is not None and done >= budget and "waiting" not in states


def seconds_of_work(record: Record) -> float | None:
    """Seconds of one worker that the budget's drawn candidates still take, at the rungs that they will reach.

    A candidate that trains now has half of it done. None without a budget, or before one has been judged.
    """
    budget = record.attributes.get("budget")
    try:
        runner = Runner.model_validate(record.attributes.get("runner"))
    except ValidationError:  # of another program
        return None
    # What was taken over has climbed its rungs elsewhere: it is done, and makes no room for others at them.
    drawn = [trial for trial in record.trials if not {"known", "copied_from"} & trial.attributes.keys()]
    spent = [_spent(trial) for trial in drawn if "score" in trial.attributes]
    if budget is None or not spent:
        return None
    expected = float(budget - (len(record.trials) - len(drawn)))
    total = mean = 0.0
    before = 0
    for rung, steps in enumerate(_steps(runner)):
        took = [each[rung] for each in spent if len(each) > rung]
        mean = statistics.fmean(took) if took else mean * (steps / before if before else 1.0)
        begun = sum(_is_past(trial, rung) for trial in drawn)
        running = sum(trial.state == "running" and trial.attributes.get("rung", 0) == rung for trial in drawn)
        total += mean * (max(expected - begun - running, 0.0) + running / 2)
        expected, before = int(expected / runner.search.eta), steps
    return total


def searched_seconds(record: Record) -> float:
    """Seconds in which somebody has searched."""
    return covered(spans_of(dict(record.attributes)))


def _spent(trial: Trial) -> list[float]:
    """Seconds that it took at each of its rungs; at the first also to be built and timed."""
    later = [float(score["seconds"]) for score in (trial.attributes.get("rungs") or ())[1:]]
    return [max(float(trial.attributes.get("seconds") or 0.0) - sum(later), 0.0), *later]


def _steps(runner: Runner) -> list[int]:
    """Steps of training from each rung to the next; none at a zero-cost proxy."""
    ladder = runner.proxy.ladder
    begins = [0, *map(trunk_of, ladder[:-1])]
    return [end - begin for begin, end in zip(begins, ladder, strict=True)]


def _is_past(trial: Trial, rung: int) -> bool:
    """Whether it was judged at the rung; one that failed counts as judged at the rung where it did."""
    rungs = len(trial.attributes.get("rungs") or ())
    return rungs > rung or (not rungs and rung == 0 and is_spent(trial.attributes))
