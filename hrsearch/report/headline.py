"""The study in plain sentences: what won, what was searched, and how it stands against published networks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hrsearch.objective import OBJECTIVES
from hrsearch.pick import trained_of, value_of, winners
from hrsearch.report.words import counted, metric_of, outcomes, plain, shown_of, spelled
from hrsearch.search.verdict import is_spent
from hrsearch.study import Record, Trial


def headline(record: Record) -> str:
    """The one sentence that people remember."""
    if not trained_of(record):
        return "Nothing is trained yet"
    for known in published(record):
        if not known.is_within_limits:
            continue  # a short training does no justice to a network that is much larger than the candidates
        faster = cheaper_than(record, known)
        cost = cost_of(record)
        if faster and cost:
            share = (value_of(faster, cost) or 0.0) / (value_of(known, cost) or 1.0)
            return f"{capital(faster.name)} matches {known.name} at {share:.0%} of its {noun(cost)}"
    best = winners(record).get("best")
    if best:
        return f"{capital(best.name)} leads with {metric_of(record)} {shown_of(best, 'score')}"
    front = len(record.front())
    return f"{counted(front, 'network')} on the front" if front else "Nothing keeps the limits yet"


def summary(record: Record) -> list[str]:
    """What was searched and how it went: one sentence each."""
    states = Counter(trial.state for trial in record.trials)
    sentences = [_judged(record)]
    if states["trained"]:
        sentences.append(_trained(record, states["trained"]))
        sentences.append(_front(record))
    ends = Counter[str]()
    for outcome in outcomes(record):
        ends[outcome.state] += len(outcome.numbers)
    said = [f"{count} {_ENDS.get(state, state)}" for state, count in ends.items()]
    return [*sentences, f"{capital(spelled(said))}."] if said else sentences


def comparisons(record: Record) -> Iterator[str]:
    """A sentence for every published network: who matches it for less, who beats it at the same cost."""
    for known in (trial for trial in record.trials if trial.attributes.get("known")):
        cost = cost_of(record)
        if known.state != "trained" or cost is None or value_of(known, "score") is None:
            yield f"{known.name} {_ENDS.get(known.state, known.state)}, so there is nothing to compare with."
            continue
        fair = [] if known.is_within_limits else ["A short training favours small networks: this is no verdict on it."]
        yield " ".join([_stands(record, known, cost), *_beaten(record, known, cost), *fair])


def published(record: Record) -> list[Trial]:
    """Published networks that were trained."""
    return [trial for trial in trained_of(record) if trial.attributes.get("known")]


def standing_out(record: Record) -> dict[str, Trial]:
    """The winners that the report shows; the smallest only where parameters count or no latency is known."""
    found = winners(record)
    judged = any(objective.name == "params" for objective in record.objectives)
    if "fastest" in found and not judged:
        found.pop("smallest", None)
    return found


def cost_of(record: Record) -> str | None:
    """The cost to compare by: latency where it is known, else the first other cost of the study that is."""
    judged = [objective.name for objective in record.objectives if objective.direction == "minimize"]
    for name in ["latency", *judged, *OBJECTIVES]:
        if OBJECTIVES[name].direction == "minimize" and any(value_of(t, name) is not None for t in trained_of(record)):
            return name
    return None


def cheaper_than(record: Record, known: Trial) -> Trial | None:
    """The cheapest candidate with at least the score of a published network, None unless it is cheaper."""
    cost, bar = cost_of(record), value_of(known, "score")
    if cost is None or bar is None:
        return None
    as_good = [trial for trial in _candidates(record, cost) if (value_of(trial, "score") or 0.0) >= bar]
    cheapest = min(as_good, key=lambda trial: value_of(trial, cost) or 0.0, default=None)
    limit = value_of(known, cost)
    return cheapest if cheapest and limit is not None and (value_of(cheapest, cost) or 0.0) < limit else None


def better_than(record: Record, known: Trial) -> Trial | None:
    """The best candidate that costs no more than a published network, None unless its score is higher."""
    cost, bar = cost_of(record), value_of(known, "score")
    limit = value_of(known, cost) if cost else None
    if cost is None or bar is None or limit is None:
        return None
    affordable = [trial for trial in _candidates(record, cost) if (value_of(trial, cost) or 0.0) <= limit]
    best = max(affordable, key=lambda trial: value_of(trial, "score") or 0.0, default=None)
    return best if best and (value_of(best, "score") or 0.0) > bar else None


def _candidates(record: Record, cost: str) -> list[Trial]:
    drawn = [trial for trial in trained_of(record) if not trial.attributes.get("known")]
    return [trial for trial in drawn if None not in (value_of(trial, "score"), value_of(trial, cost))]


_ENDS = {
    "refused": "refused by a limit",
    "stopped": "let go at an earlier rung",
    "waiting": "waiting at a rung",
    "failed": "failed",
    "running": "being judged",
    "lost": "cut off",
}
_NOUNS = {"flops": "FLOPs", "params": "parameters", "training_memory": "memory in training"}


def _judged(record: Record) -> str:
    """What was refused untrained is no judged network, and a published one is no candidate."""
    space = Path(str(record.attributes.get("space_path") or "the space")).name
    judged = [trial for trial in record.trials if is_spent(trial.attributes)]
    known = [trial.name for trial in judged if trial.attributes.get("known")]
    said = f"{counted(len(judged) - len(known), 'candidate')} of {space} judged"
    said += f", and {spelled(known)} to compare with" if known else ""
    budget, spent = record.attributes.get("budget"), len(judged)
    left = f"; {spent:,} of the budget of {budget:,} are spent" if budget and spent < budget else ""
    return f"{said}{left}."


def _trained(record: Record, count: int) -> str:
    runner = record.attributes.get("runner", {})
    proxy, measure = runner.get("proxy", {}), runner.get("measure", {})
    trained = f"{counted(count, 'network')} trained"
    if {"steps", "data", "image"} <= proxy.keys():
        side = proxy["image"]
        trained += f" for {proxy['steps']:,} steps on {proxy['data']} at {side} × {side}"
    timed = any(value_of(trial, "latency") is not None for trial in trained_of(record))
    sized = any(trial.attributes.get("arch", {}).get("image") for trial in trained_of(record))
    size = "each network's own image size" if sized else plain(measure.get("image", ""))
    return trained + (f" and timed at {size}." if timed and size else ".")


def _front(record: Record) -> str:
    nouns = spelled([noun(objective.name) for objective in record.objectives])
    at_once = " at once" if len(record.objectives) > 1 else ""
    count = len(record.front())
    if not count:
        return "None of them keeps the limits."
    stands = "one stands" if count == 1 else f"{count} stand"
    noise = " beyond the noise of measuring" if any(objective.measured for objective in record.objectives) else ""
    return f"{capital(stands)} on the front: nothing else is better in {nouns}{at_once}{noise}."


def _stands(record: Record, known: Trial, cost: str) -> str:
    figures = f"{metric_of(record)} {shown_of(known, 'score')} at {shown_of(known, cost)}"
    broken = spelled([text for text, violation in (known.attributes.get("violations") or {}).items() if violation > 0])
    if broken:
        return f"{capital(known.name)} ({figures}) breaks {broken} and is shown to compare with."
    return f"{capital(known.name)} ({figures}) is {'on' if known in record.front() else 'behind'} the front."


def _beaten(record: Record, known: Trial, cost: str) -> Iterator[str]:
    cheaper, better = cheaper_than(record, known), better_than(record, known)
    if cheaper:
        share = (value_of(cheaper, cost) or 0.0) / (value_of(known, cost) or 1.0)
        yield (
            f"{capital(cheaper.name)} reaches its score with {share:.0%} of its {noun(cost)} "
            f"({shown_of(cheaper, cost)}, {shown_of(cheaper, 'score')})."
        )
    if better and better is not cheaper:
        gain = (value_of(better, "score") or 0.0) - (value_of(known, "score") or 0.0)
        yield f"{capital(better.name)} scores {gain:+.3f} at no more {noun(cost)} ({shown_of(better, cost)})."
    if not cheaper and not better:
        yield f"No candidate has its score at less {noun(cost)}."


def noun(name: str) -> str:
    """What a person calls an objective in a sentence."""
    return _NOUNS.get(name, name)


def capital(text: str) -> str:
    """Text that begins a sentence; names of networks stay as they are."""
    return text[:1].upper() + text[1:] if text.startswith("trial") or " " in text else text
