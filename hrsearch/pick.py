"""Chooses one trial of a study: the winners that the report names, and what `--pick` of the command line says."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from hrsearch.errors import InputError, NothingFits, suggestion
from hrsearch.front import knee
from hrsearch.objective import OBJECTIVES, Limit, objective_of, parse_limit, readable
from hrsearch.study import Record, Trial

EXAMPLES = "knee, best, fastest, smallest, trial:17, the name of a published network or 'latency<=30ms'"
MOST_NAMED = 5  # trials in a line


def pick(record: Record, choice: str) -> Trial:
    """The trained trial that `choice` names; an InputError says why there is none and what would work.

    `knee` gives most of everything (`hrsearch.front.knee`), `best` has the best score, `fastest` the lowest latency,
    `smallest` the fewest parameters, `trial:17` is that trial, a published network goes by its name, and limits such as
    `latency<=30ms` or `latency<=30ms,params<=5M` give the best score among the trials that keep them.
    """
    choice = choice.strip()
    known = {trial.name: trial for trial in record.trials if trial.attributes.get("known")}
    if choice.startswith("trial:"):
        return _judged(record, record.trial(_number(choice)))
    if choice in known:
        return _judged(record, known[choice])
    if choice not in WINNERS and not set(choice) & set("<>="):
        raise InputError(_unreadable(choice, known))
    candidates = [trial for trial in trained_of(record) if trial.is_within_limits]
    if not candidates:
        raise InputError(
            f"study {record.name!r} has no trained trial to pick from{_states(record)}; let it run further"
        )
    if choice in WINNERS:
        return WINNERS[choice](record, candidates)
    return _within(record, candidates, [parse_limit(text) for text in choice.split(",")])


def passed_over(record: Record, choice: str) -> str | None:
    """That the choice was made among confirmed networks, while others of the front are not; None where all of it is,
    or where the choice names a trial."""
    names_none = choice.strip() in WINNERS or set(choice) & set("<>=")
    if not record.unconfirmed or not names_none:
        return None
    return f"picked among the confirmed networks; on the front, but not confirmed: {_listed(record.unconfirmed)}"


def winners(record: Record) -> dict[str, Trial]:
    """The trials that stand out, by the choice that picks them; a choice that does not apply is left out."""
    found = {}
    for choice in WINNERS:
        try:
            found[choice] = pick(record, choice)
        except InputError:
            continue
    return found


def trained_of(record: Record) -> list[Trial]:
    """The trials whose judging ended well, in order of their number."""
    return [trial for trial in record.trials if trial.state == "trained"]


def value_of(trial: Trial, name: str) -> float | None:
    """What is known of the trial in an objective, whether the study judges by it or not; NaN is not known."""
    value = objective_of(name).of(trial.attributes)
    return value if value is not None and math.isfinite(value) else None


_ENDS = {
    "refused": "was refused",
    "failed": "failed",
    "running": "is still running",
    "stopped": "was let go at an earlier rung",
    "waiting": "waits at a rung",
}


def _knee(record: Record, candidates: Sequence[Trial]) -> Trial:
    if not record.contenders:
        raise InputError(f"study {record.name!r} has no trial with a value for every objective; choose trial:NUMBER")
    directions = [objective.direction for objective in record.objectives]
    points = [[float(value or 0.0) for value in trial.values] for trial in record.contenders]
    return record.contenders[knee(points, directions)]


def _best(record: Record, candidates: Sequence[Trial]) -> Trial:
    return _top(record, candidates, "score")


def _fastest(record: Record, candidates: Sequence[Trial]) -> Trial:
    return _top(record, candidates, "latency")


def _smallest(record: Record, candidates: Sequence[Trial]) -> Trial:
    return _top(record, candidates, "params")


WINNERS: dict[str, Callable[[Record, Sequence[Trial]], Trial]] = {
    "knee": _knee,
    "best": _best,
    "fastest": _fastest,
    "smallest": _smallest,
}


def _top(record: Record, candidates: Sequence[Trial], name: str) -> Trial:
    """The candidate that is best in an objective; among equals the one with the best score, then the earliest."""
    known = [trial for trial in candidates if value_of(trial, name) is not None]
    if not known:
        measured = [other for other in OBJECTIVES if any(value_of(trial, other) is not None for trial in candidates)]
        raise InputError(f"study {record.name!r} knows no {name} of its trials; it knows {', '.join(measured)}")
    return min(known, key=lambda trial: (_loss(trial, name), _loss(trial, "score"), trial.number))


def _within(record: Record, candidates: Sequence[Trial], limits: Sequence[Limit]) -> Trial:
    kept = list(candidates)
    for limit in limits:
        before, kept = kept, [trial for trial in kept if _keeps(trial, limit)]
        if not kept:
            nearest = _nearest(record, before, limit)
            value = readable(value_of(nearest, limit.objective) or 0.0, objective_of(limit.objective).unit)
            what = "trained" if record.unconfirmed is None else "confirmed"
            beside = _beside(record, limits)
            raise NothingFits(f"no {what} trial keeps {limit}; the nearest is {nearest.name} with {value}{beside}")
    scored = any(value_of(trial, "score") is not None for trial in kept)
    return _top(record, kept, "score" if scored else record.objectives[0].name)


def _nearest(record: Record, candidates: Sequence[Trial], limit: Limit) -> Trial:
    """Who breaks the limit by least."""
    known = [(value, trial) for trial in candidates if (value := value_of(trial, limit.objective)) is not None]
    if not known:
        return _top(record, candidates, limit.objective)  # says what is known instead
    return min(known, key=lambda one: (limit.violation(one[0]), one[1].number))[1]


def _beside(record: Record, limits: Sequence[Limit]) -> str:
    """Who of the front keeps the limits, but was not asked because others were confirmed."""
    keeping = [trial for trial in record.unconfirmed or () if all(_keeps(trial, limit) for limit in limits)]
    return f"; others of the front do, not confirmed: {_listed(keeping)}" if keeping else ""


def _listed(trials: Sequence[Trial]) -> str:
    """Who is not confirmed, and what can be done about that."""
    how = f"hrsearch finalize without --most confirms them, --pick trial:{trials[0].number} takes one as it is"
    return f"{named(trials)} ({how})"


def named(trials: Sequence[Trial]) -> str:
    """Their names, of many the first and how many more there are: "trial 3, trial 8 and 12 more"."""
    more = f" and {len(trials) - MOST_NAMED} more" if len(trials) > MOST_NAMED else ""
    return ", ".join(trial.name for trial in trials[:MOST_NAMED]) + more


def _keeps(trial: Trial, limit: Limit) -> bool:
    value = value_of(trial, limit.objective)
    return value is not None and limit.violation(value) <= 0


def _loss(trial: Trial, name: str) -> float:
    value = value_of(trial, name)
    if value is None:
        return float("inf")
    return -value if objective_of(name).direction == "maximize" else value


def _judged(record: Record, trial: Trial) -> Trial:
    if trial.state == "trained":
        return trial
    reason = f" ({trial.attributes['reason']})" if trial.attributes.get("reason") else ""
    front = ", ".join(str(other.number) for other in record.front()[:5])
    hint = f"the front begins with trial {front}" if front else "no trial is trained yet; let the study run further"
    raise InputError(f"{trial.name} {_ENDS.get(trial.state, trial.state)}{reason}, so it cannot be picked; {hint}")


def _number(choice: str) -> int:
    text = choice.removeprefix("trial:").strip()
    if not text.isdecimal():
        raise InputError(f"pick {choice!r}: {text!r} is no trial number; write for example trial:17")
    return int(text)


def _unreadable(choice: str, known: Mapping[str, Trial]) -> str:
    if choice.isdecimal():
        return f"pick {choice!r} cannot be read; did you mean 'trial:{choice}'?"
    close = suggestion(choice, [*WINNERS, *known])
    return f"pick {choice!r} cannot be read; {close if close.startswith('did') else f'write {EXAMPLES}'}"


def _states(record: Record) -> str:
    counts = Counter(trial.state for trial in record.trials)
    return f" ({', '.join(f'{count} {state}' for state, count in counts.items())})" if counts else ""
