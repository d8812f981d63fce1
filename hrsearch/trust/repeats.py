"""Scores of longer trainings by the names under which the study keeps them."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hrsearch.study import Record, Trial

CALIBRATION, CONFIRMATION = "calibration", "confirmation"

Scores = Mapping[int, Mapping[str, Any]]  # by seed, counted from 0: a `Score` as a mapping


def key_of(kind: str, length: int | str, number: int, seed: int | None = None) -> str:
    """The attribute's name: `length` is how many times the proxy's steps, or the name of a zero-cost proxy."""
    return f"{kind}:{length}:{number}" + ("" if seed is None else f":{seed}")


def scores_of(record: Record, kind: str, times: int, data: str | None = None) -> dict[int, Scores]:
    """What is known after that many times the proxy's steps, by the trial's number; what failed is left out.

    So is a score of other images than those of that hash, if it is given.
    """
    pattern = re.compile(rf"{kind}:{times}:(\d+):(\d+)")
    found: dict[int, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for key, result in record.attributes.items():
        match = pattern.fullmatch(key)
        if match and "value" in result and (data is None or result.get("data", data) == data):
            found[int(match[1])][int(match[2])] = result
    return {number: dict(sorted(found[number].items())) for number in sorted(found)}


def lengths_of(record: Record, kind: str) -> list[int]:
    """How many times the proxy's steps networks were trained for, ascending."""
    matches = (re.fullmatch(rf"{kind}:(\d+):\d+:\d+", key) for key in record.attributes)
    return sorted({int(match[1]) for match in matches if match})


def zero_cost_of(record: Record) -> dict[str, dict[int, float]]:
    """What zero-cost proxies say, by their names and the trials' numbers."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for key, result in record.attributes.items():
        match = re.fullmatch(rf"{CALIBRATION}:([a-z]\w*):(\d+)", key)
        if match and result.get("value") is not None:
            found[match[1]][int(match[2])] = float(result["value"])
    return dict(found)


def rungs_of(trial: Trial) -> dict[int, Mapping[str, Any]]:
    """The trial's scores by rung, ascending; a search without rungs has one.

    Of a trial that was taken over from another study the last rung is known alone, which its score names.
    """
    if trial.attributes.get("rungs"):
        return dict(enumerate(trial.attributes["rungs"]))
    score = trial.attributes.get("score")
    return {int(score.get("rung", 0)): score} if score else {}
