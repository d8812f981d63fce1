"""A study seen from another device: its networks measured again elsewhere, the front recomputed.

What `hrsearch measure` found stands in the study's attributes, because a finished trial takes no more of its own:
`target:NAME` holds how it was measured, `target:NAME:17` the latency and the FLOPs of trial 17 there, or why it failed.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hrsearch.errors import InputError, suggestion
from hrsearch.study import Record, Trial

PREFIX = "target:"
NAME = r"[\w.+-]+"


def targets_of(record: Record) -> dict[str, Mapping[str, Any]]:
    """How the study was measured elsewhere, by the target's name, the first one first."""
    pattern = re.compile(f"{PREFIX}({NAME})")
    found = ((pattern.fullmatch(key), value) for key, value in record.attributes.items())
    return {match[1]: value for match, value in found if match}


def key_of(target: str, number: int | None = None) -> str:
    """The attribute's name: of the target, or of a trial there. A target's name is letters, digits and . _ + -"""
    if not re.fullmatch(NAME, target):
        raise InputError(f"target {target!r}: a name is letters, digits and . _ + -")
    return f"{PREFIX}{target}" if number is None else f"{PREFIX}{target}:{number}"


def on_target(record: Record, target: str) -> Record:
    """The study as if it had been measured there: trials that were not are left out, limits on latency do not apply."""
    known = targets_of(record)
    if target not in known:
        raise InputError(f"study {record.name!r} has no target {target!r}; {suggestion(target, known)}")
    found = ((trial, record.attributes.get(key_of(target, trial.number))) for trial in record.trained)
    trials = tuple(_there(record, trial, result) for trial, result in found if result and "latency" in result)
    limits = [str(limit) for limit in record.limits if limit.objective != "latency"]
    runner = record.attributes.get("runner") or {}
    measure = {key: known[target].get(key, value) for key, value in runner.get("measure", {}).items()}
    # The proxy of a network with an image size of its own is zoomed by what was usual in the search: see `export`.
    runners = {"runner": {**runner, "measure": measure}, "runner_of_search": runner}
    attributes = {**record.attributes, "limits": limits, **runners}
    return dataclasses.replace(record, name=f"{record.name} on {target}", attributes=attributes, trials=trials)


def _there(record: Record, trial: Trial, result: Mapping[str, Any]) -> Trial:
    """Limits on FLOPs, parameters and memory were kept at the size of the search, and are not asked again."""
    of_latency = {str(limit) for limit in record.limits if limit.objective == "latency"}
    violations = trial.attributes.get("violations") or {}
    kept = {text: violation for text, violation in violations.items() if text not in of_latency}
    attributes = {**trial.attributes, **result, "violations": kept}
    values = tuple(objective.of(attributes) for objective in record.objectives)
    return dataclasses.replace(trial, attributes=attributes, values=values)
