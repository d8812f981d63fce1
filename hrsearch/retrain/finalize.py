"""The front with more seeds and a longer schedule: for `hrsearch finalize`."""

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hrsearch.candidate import confirmed_weights, weights_path
from hrsearch.errors import InputError
from hrsearch.front import best_first, not_surely_dominated
from hrsearch.proxy.data import knows_official
from hrsearch.proxy.data.split import SplitName
from hrsearch.retrain.work import Done, done_jobs, job_of, retraining_of
from hrsearch.search.ledger import noting
from hrsearch.storage import locked
from hrsearch.study import Record, Trial, read_study
from hrsearch.trust.confirmed import confirmed
from hrsearch.trust.repeats import CONFIRMATION, scores_of

ASIDE = "confirming"  # the folder of weights until it is known which are the best
LOCK = ".finalize"
FEWEST = 2  # seeds
AGAIN = "again"  # the length of a short training that shows how far a score is noise


def finalize(
    folder: Path,
    seeds: int = 3,
    times: int = 3,
    on_done: Callable[[Done], None] = lambda one: None,
    most: int | None = None,
) -> Record:
    """The confirmed study: its front and what is as good within the noise of a score, trained with `seeds` seeds for
    `times` the proxy's steps. What was trained before is not trained again. They are at most `most` networks, by
    default twice as many as the front has: where scores are noisy, nearly all others could stand on it.

    How far a score is noise is seen from one more short training of each network of the front. Scores are validated on
    images that the search has never seen (see `hrsearch.proxy.data.split`), or on the proxy's where a plug-in's data
    has no others. An InputError says that the study has no front, that no training ended well, that fewer than two
    seeds were asked for, which tell nothing of chance, or none of the others, or that another call is at work on it.
    """
    record = read_study(folder)
    if seeds < FEWEST:
        raise InputError(f"seeds: got {seeds}, but how far a score is chance is told by {FEWEST} at least")
    for name, count in (("times", times), ("most", most)):
        if count is not None and count < 1:
            raise InputError(f"{name}: got {count}, but 1 is the least")
    if not record.front():
        raise InputError(f"study {record.name!r} has no front to confirm; let it run further")
    with _alone(record):
        return _finalized(read_study(folder), seeds, times, on_done, most)


def _finalized(record: Record, seeds: int, times: int, on_done: Callable[[Done], None], most: int | None) -> Record:
    folder, front = record.folder, record.front()
    short = retraining_of(record, 1)
    split: SplitName = "official" if knows_official(short.runner.proxy.data) else "proxy"
    again = (job_of(record, trial, CONFIRMATION, AGAIN) for trial in front)
    noise = noise_of(front, done_jobs(record, short, again, on_done))
    chosen = foremost(record, near_front(record, noise), most or 2 * len(front))
    long = retraining_of(record, times, split=split, keeps=True)
    results = done_jobs(
        record,
        long,
        [
            job_of(record, trial, CONFIRMATION, times, seed, _aside(folder, times, seed))
            for seed in range(seeds)
            for trial in chosen
        ],
        on_done,
    )
    if not any("value" in one for one in results.values()):
        raise InputError(f"study {record.name!r}: no training ended well; {next(iter(results.values()))['reason']}")
    how = {"times": times, "seeds": seeds, "split": split, "data": long.data, "noise": noise}
    noting(folder)({CONFIRMATION: how})
    record = read_study(folder)
    _keep_best(record, times, long.data)
    return confirmed(record)


def noise_of(front: Sequence[Trial], again: Mapping[str, Mapping[str, Any]]) -> float:
    """The standard deviation of a score: of two trainings of the same network, half of their squared difference."""
    first = {str(trial.number): float(trial.attributes["score"]["value"]) for trial in front}
    pairs = [(first[key.rsplit(":", 1)[1]], float(one["value"])) for key, one in again.items() if "value" in one]
    return math.sqrt(sum((one - other) ** 2 for one, other in pairs) / (2 * len(pairs))) if pairs else 0.0


def near_front(record: Record, noise: float) -> list[Trial]:
    """Contenders that none beats by more than the noise of measuring and a deviation of each score, best first."""
    lows, highs = [], []
    for trial in record.contenders:
        ends = [objective.interval(trial.attributes) or (0.0, 0.0) for objective in record.objectives]
        wide = [noise if objective.name == "score" else 0.0 for objective in record.objectives]
        lows.append([low - more for (low, _), more in zip(ends, wide, strict=True)])
        highs.append([high + more for (_, high), more in zip(ends, wide, strict=True)])
    found = not_surely_dominated(lows, highs, [objective.direction for objective in record.objectives])
    chosen = [record.contenders[place] for place in found]
    return sorted(chosen, key=lambda trial: (-float(trial.attributes["score"]["value"]), trial.number))


def foremost(record: Record, near: Sequence[Trial], most: int) -> list[Trial]:
    """So many of these: the front first, then those that come next in rank and by hypervolume; best score first."""
    front = {trial.number for trial in record.front()}
    directions = [objective.direction for objective in record.objectives]
    order = best_first([[float(value or 0.0) for value in trial.values] for trial in near], directions)
    ranked = sorted((near[place] for place in order), key=lambda trial: trial.number not in front)
    chosen = {trial.number for trial in ranked[:most]}
    return [trial for trial in near if trial.number in chosen]


@contextmanager
def _alone(record: Record) -> Iterator[None]:
    """Two at once would train the same twice, and the first to end would remove weights of the other."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(record.folder / LOCK, waits=False))
        except BlockingIOError:
            again = "let it end; the same command then goes on from what it has trained"
            raise InputError(f"study {record.name!r}: another finalize is at work on it; {again}") from None
        yield


def _aside(folder: Path, times: int, seed: int) -> Path:
    return folder / ASIDE / str(times) / str(seed)


def _keep_best(record: Record, times: int, data: str) -> None:
    """Keep the weights of each network's best seed. One that was put in its place by an earlier call stays there.

    What an interrupted call has set aside of another length stays, too.
    """
    for number, scores in scores_of(record, CONFIRMATION, times, data).items():
        best = max(scores, key=lambda seed: float(scores[seed]["value"]))
        found = weights_path(_aside(record.folder, times, best), number)
        if found.is_file():
            place = confirmed_weights(record.folder, number, times)
            place.parent.mkdir(parents=True, exist_ok=True)
            found.replace(place)
    shutil.rmtree(record.folder / ASIDE / str(times), ignore_errors=True)
    with suppress(OSError):  # not empty, or not there
        (record.folder / ASIDE).rmdir()
