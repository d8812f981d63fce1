"""How far a study's proxy can be trusted: for `hrsearch calibrate`."""

import random
import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from hrsearch.candidate import seed_of
from hrsearch.errors import InputError
from hrsearch.registry import ZERO_COST
from hrsearch.retrain.work import Done, Untrained, done_jobs, job_of, retraining_of
from hrsearch.study import Record, Trial, read_study
from hrsearch.trust.card import FEWEST, Card, card_of, quarters
from hrsearch.trust.repeats import CALIBRATION, rungs_of, scores_of

SLOW = 3.0  # times the median time of a step: what takes longer than that is not chosen where there is another


def calibrate(
    folder: Path,
    count: int = 12,
    times: int = 10,
    seeds: int = 1,
    zero_cost: Sequence[str] = (),
    on_done: Callable[[Done], None] = lambda one: None,
    on_start: Callable[[float], None] = lambda seconds: None,
) -> Card:
    """The trust card of the study in `folder`, once `count` of its networks are trained `times` as long as the proxy.

    With each of `seeds` other seeds. What was trained before is not trained again and stands in the card, too.
    `on_start` is told how many seconds of a worker that should take. An InputError says that the study holds too few
    networks, or that too few trainings ended well.
    """
    record = read_study(folder)
    how = retraining_of(record, times)
    for kind in zero_cost:
        ZERO_COST[kind]  # a wrong name is told before anything is trained
    known = scores_of(record, CALIBRATION, times)
    chosen = sorted(choose(record, count, known), key=step_seconds, reverse=True)  # no long one is left for the end
    missing = [trial for trial in chosen for seed in range(seeds) if seed not in known.get(trial.number, {})]
    on_start(sum(how.runner.proxy.steps * step_seconds(trial) for trial in missing))
    jobs = (job_of(record, trial, CALIBRATION, times, seed) for seed in range(seeds) for trial in chosen)
    results = done_jobs(record, how, jobs, on_done)
    for kind in zero_cost:
        untrained = Untrained(how.runner, how.task, how.plugins, data=how.data, kind=kind)
        done_jobs(record, untrained, (job_of(record, trial, CALIBRATION, kind) for trial in chosen), on_done)
    card = card_of(read_study(folder), times)
    if card is None:
        reason = next((f"; {one['reason']}" for one in results.values() if "reason" in one), "")
        raise InputError(f"study {record.name!r}: fewer than {FEWEST} networks could be trained{reason}")
    return card


def step_seconds(trial: Trial) -> float:
    """The seconds that a step of the trial's proxy training took, with its share of the first validation; 0 where it
    was only screened."""
    trained = [score for score in rungs_of(trial).values() if score["steps"]]
    return float(trained[0]["seconds"]) / int(trained[0]["steps"]) if trained else 0.0


def choose(record: Record, count: int, known: Collection[int] = ()) -> list[Trial]:
    """About half of them from the best quarter by the proxy's score, so that an order can be told within it, too.

    Each half stands at even distances in the order of the scores; of networks that are as good, those in `known` come
    first, else chance decides among those that are not far slower to train than the median: one of them would take as
    long as several others. An InputError if there are fewer than four.
    """
    top, rest = quarters(record)
    if len(top) + len(rest) < FEWEST or count < FEWEST:
        what = (
            f"-k {count}" if count < FEWEST else f"study {record.name!r} holds {len(top) + len(rest)} that were scored"
        )
        raise InputError(f"{what}: an order needs at least {FEWEST} networks")
    of_top = min(len(top), max(count // 2, count - len(rest)))
    bound = SLOW * statistics.median([seconds for trial in [*top, *rest] if (seconds := step_seconds(trial))] or [0.0])
    spread = partial(_spread, known=known, bound=bound)
    return [*spread(top, of_top), *spread(rest, min(count - of_top, len(rest)))]


def _spread(trials: Sequence[Trial], count: int, known: Collection[int], bound: float) -> Iterator[Trial]:
    """One of each of `count` equal stretches."""
    for place in range(count):
        stretch = trials[place * len(trials) // count : (place + 1) * len(trials) // count]
        done = [trial for trial in stretch if trial.number in known]
        quick = [trial for trial in stretch if step_seconds(trial) <= bound]
        generator = random.Random(seed_of("calibrate", *(trial.attributes.get("digest") for trial in stretch)))
        yield generator.choice(done or quick or stretch)
