"""Limits and outcomes: what a trial is told, from what is known of its candidate."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import TrialState

from hrsearch.objective import OBJECTIVES, Limit, Objective, readable
from hrsearch.search.judging import MEMORY

Attributes = Mapping[str, Any]


def violations_of(limits: Sequence[Limit], attributes: Attributes) -> dict[str, float]:
    """The relative violation of each limit whose objective is known, by the limit's text; positive where broken."""
    values = {limit: OBJECTIVES[limit.objective].of(attributes) for limit in limits}
    return {str(limit): limit.violation(value) for limit, value in values.items() if value is not None}


def broken(limits: Sequence[Limit], attributes: Attributes) -> str | None:
    """Which limits the candidate breaks, in words; None if it keeps all that can be told yet."""
    words = []
    for limit in limits:
        objective = OBJECTIVES[limit.objective]
        value = objective.of(attributes)
        if value is not None and limit.violation(value) > 0:
            words.append(f"{limit} does not hold ({objective.name} is {readable(value, objective.unit)})")
    return "; ".join(words) or None


def settled(attributes: Attributes, objectives: Sequence[Objective], limits: Sequence[Limit]) -> dict[str, Any]:
    """A worker's attributes as they are stored: checked, with the violations and the final outcome."""
    try:
        known: dict[str, Any] = json.loads(json.dumps(dict(attributes), allow_nan=False))
    except (TypeError, ValueError) as error:
        return _failed({}, f"its judgement cannot be stored ({error})")
    violations = violations_of(limits, known)
    violations |= {MEMORY: known["violations"][MEMORY]} if ran_out_of_memory(known) else {}
    known |= {"violations": violations} if violations else {}
    if known.get("outcome") in ("failed", "refused"):
        return {"reason": "no reason was given", **known}
    lacking = [objective.name for objective in objectives if not _is_finite(objective.of(known))]
    if lacking:
        return _failed(known, f"no {' and no '.join(lacking)} came out of judging it")
    reason = None if "known" in known else broken(limits, known)
    return {**known, "outcome": "refused", "reason": reason} if reason else {**known, "outcome": "trained"}


def told(attributes: Attributes, objectives: Sequence[Objective]) -> tuple[TrialState, list[float] | None]:
    """The state and the values that Optuna is told of a trial whose outcome is known.

    A refused trial, and one that a rung let go, is PRUNED without values: Optuna refuses values there, and so no front
    of its own can contain it. So is one that ran out of memory, that samplers may learn from the constraint that it
    broke: of a trial that is told as FAIL they see nothing.
    """
    if attributes["outcome"] == "trained":
        return TrialState.COMPLETE, [float(objective.of(attributes) or 0.0) for objective in objectives]
    is_of_use = attributes["outcome"] in ("refused", "stopped") or ran_out_of_memory(attributes)
    return (TrialState.PRUNED if is_of_use else TrialState.FAIL), None


def ran_out_of_memory(attributes: Attributes) -> bool:
    """Whether the candidate failed because it needed more memory than there was."""
    violations: Mapping[str, float] = attributes.get("violations") or {}
    return violations.get(MEMORY, 0.0) > 0


def is_spent(attributes: Attributes) -> bool:
    """Whether the trial counts against the budget: it was trained, to whatever rung, or failed when it should be."""
    return attributes.get("outcome") == "failed" or "score" in attributes


def _failed(known: dict[str, Any], reason: str) -> dict[str, Any]:
    return {**known, "outcome": "failed", "reason": reason}


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
