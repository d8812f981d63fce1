"""What other studies have found out under the same protocol: taken over, not trained again."""

import json
import shutil
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrsearch.arch import Arch
from hrsearch.candidate import weights_path
from hrsearch.errors import InputError
from hrsearch.objective import OBJECTIVES, parse_limit
from hrsearch.runner import Runner
from hrsearch.search.ledger import difference, other_processor
from hrsearch.space import Setting, Space
from hrsearch.study import Record, Trial, read_study

MUST_AGREE = ("task", "classes", "split", "protocol")
COPIED = ("score", "latency", "memory", "training_memory", "part_ms", "ms_by_place")


@dataclass(frozen=True)
class Evaluation:
    """A candidate that another study trained in full."""

    attributes: Mapping[str, Any]  # what judging it gave, and where that was
    arch: Arch
    setting: Setting | None  # the knobs that build it in the space that is searched, if any do
    weights: Path

    def keep_weights(self, path: Path) -> None:
        """Copy its weights, where they were kept: no death leaves half of them."""
        if self.weights.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.partial")
            try:
                shutil.copyfile(self.weights, aside)
                aside.replace(path)
            finally:
                aside.unlink(missing_ok=True)


def earlier_of(folders: Sequence[Path], space: Space, asked: Mapping[str, Any]) -> dict[str, Evaluation]:
    """The candidates that the studies in `folders` trained in full, by digest; the first study that has one counts.

    `asked` are the attributes of the study that takes them over. A study that was judged in another way, or whose
    latencies are another machine's, is an InputError, and so is one that has trained none, or none of which enough is
    known. Of such a candidate something is not known that `asked` judges or limits by: it is judged anew where it is
    drawn. One that no knobs of this space are known to build may be drawn yet.
    """
    found: dict[str, Evaluation] = {}
    needed = {*asked["objectives"], *(parse_limit(text).objective for text in asked["limits"])}
    last = len(Runner.model_validate(asked["runner"]).proxy.ladder) - 1
    for folder in folders:
        record = read_study(folder)
        _check(record, json.loads(json.dumps(dict(asked))))
        pace = float(asked.get("reference_ms") or 1.0) / float(record.attributes.get("reference_ms") or 1.0)
        trained = [trial for trial in record.trials if _is_in_full(trial, last)]
        known = [trial for trial in trained if not _lacking(trial, needed)]
        if not trained:
            raise InputError(f"--warm-start {folder}: no candidate of it was trained in full; leave it out")
        if not known:
            lacking = ", ".join(sorted(_lacking(trained[0], needed)))
            raise InputError(
                f"--warm-start {folder}: its candidates know no {lacking}, which is asked for; leave it out"
            )
        for trial in known:
            found.setdefault(trial.attributes["digest"], _evaluation(record, trial, space, pace))
    return found


def _check(record: Record, asked: Mapping[str, Any]) -> None:
    stored = record.attributes
    # Without plug-ins, or in a study of an older program, nothing is said of their code.
    for key in (*MUST_AGREE, *({"code"} & stored.keys() & asked.keys())):
        if stored.get(key) != asked.get(key):
            raise InputError(f"--warm-start {record.folder}: {difference(key, stored, asked)}; leave it out")
    there = other_processor(stored, asked)
    if there:
        raise InputError(f"--warm-start {record.folder}: its latencies are of another machine ({there}); leave it out")


def _is_in_full(trial: Trial, last: int) -> bool:
    """Whether it was trained to the last rung; a limit may have refused it then, which need not hold here."""
    score = trial.attributes.get("score") or {}
    return trial.state == "trained" or (trial.state == "refused" and score.get("rung") == last)


def _lacking(trial: Trial, needed: Set[str]) -> set[str]:
    """The objectives that the trial was never judged by."""
    return {name for name in needed if OBJECTIVES[name].of(trial.attributes) is None}


def _evaluation(record: Record, trial: Trial, space: Space, pace: float) -> Evaluation:
    known = {key: trial.attributes[key] for key in COPIED if key in trial.attributes}
    arch = Arch.from_dict(trial.attributes["arch"])
    known |= {"copied_from": trial.attributes.get("copied_from") or f"{record.name}:{trial.number}"}
    weights = weights_path(record.folder, trial.number)
    return Evaluation(_at_pace(known, pace), arch, _setting(trial, arch, space), weights)


def _setting(trial: Trial, arch: Arch, space: Space) -> Setting | None:
    """The trial's knobs, if they build its network here as well."""
    try:
        same = bool(trial.knobs) and space.arch(trial.knobs).digest() == arch.digest()
    except InputError:
        return None
    return dict(trial.knobs) if same else None


def _at_pace(known: dict[str, Any], pace: float) -> dict[str, Any]:
    """Its milliseconds, scaled as if the reference network had taken as long there as it does here."""
    if pace == 1.0:
        return known
    latency = known.get("latency") or {}
    scaled = {key: latency[key] * pace for key in ("median_ms", "low_ms", "high_ms") if key in latency}
    known |= {"latency": {**latency, **scaled}} if latency else {}
    known |= {"part_ms": [each * pace for each in known["part_ms"]]} if "part_ms" in known else {}
    places = known.get("ms_by_place") or {}
    return known | ({"ms_by_place": {place: each * pace for place, each in places.items()}} if places else {})
