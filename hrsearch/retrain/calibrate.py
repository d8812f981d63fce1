"""How far a study's proxy can be trusted: for `hrsearch calibrate`."""

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from hrsearch.candidate import seed_of
from hrsearch.errors import InputError
from hrsearch.registry import ZERO_COST
from hrsearch.retrain.work import Done, Untrained, done_jobs, job_of, retraining_of
from hrsearch.study import Record, Trial, read_study
from hrsearch.trust.card import FEWEST, Card, card_of, quarters
from hrsearch.trust.repeats import CALIBRATION, scores_of


def calibrate(
    folder: Path,
    count: int = 12,
    times: int = 10,
    seeds: int = 1,
    zero_cost: Sequence[str] = (),
    on_done: Callable[[Done], None] = lambda one: None,
) -> Card:
    """The trust card of the study in `folder`, once `count` of its networks are trained `times` as long as the proxy.

    With each of `seeds` other seeds. What was trained before is not trained again and stands in the card, too. An
    InputError says that the study holds too few networks, or that too few trainings ended well.
    """
    record = read_study(folder)
    how = retraining_of(record, times)
    for kind in zero_cost:
        ZERO_COST[kind]  # a wrong name is told before anything is trained
    chosen = choose(record, count, scores_of(record, CALIBRATION, times))
    jobs = (job_of(record, trial, CALIBRATION, times, seed) for seed in range(seeds) for trial in chosen)
    results = done_jobs(record, how, jobs, on_done)
    for kind in zero_cost:
        untrained = Untrained(how.runner, how.task, how.plugins, kind=kind)
        done_jobs(record, untrained, (job_of(record, trial, CALIBRATION, kind) for trial in chosen), on_done)
    card = card_of(read_study(folder), times)
    if card is None:
        reason = next((f"; {one['reason']}" for one in results.values() if "reason" in one), "")
        raise InputError(f"study {record.name!r}: fewer than {FEWEST} networks could be trained{reason}")
    return card


def choose(record: Record, count: int, known: Collection[int] = ()) -> list[Trial]:
    """About half of them from the best quarter by the proxy's score, so that an order can be told within it, too.

    Each half stands at even distances in the order of the scores; of networks that are as good, those in `known` come
    first, else chance decides. An InputError if there are fewer than four.
    """
    top, rest = quarters(record)
    if len(top) + len(rest) < FEWEST or count < FEWEST:
        what = f"-k {count}" if count < FEWEST else f"study {record.name!r} holds {len(top) + len(rest)} trained"
        raise InputError(f"{what}: an order needs at least {FEWEST} networks")
    of_top = min(len(top), max(count // 2, count - len(rest)))
    return [*_spread(top, of_top, known), *_spread(rest, min(count - of_top, len(rest)), known)]


def _spread(trials: Sequence[Trial], count: int, known: Collection[int]) -> Iterator[Trial]:
    """One of each of `count` equal stretches."""
    for place in range(count):
        stretch = trials[place * len(trials) // count : (place + 1) * len(trials) // count]
        done = [trial for trial in stretch if trial.number in known]
        generator = random.Random(seed_of("calibrate", *(trial.attributes.get("digest") for trial in stretch)))
        yield generator.choice(done or stretch)
