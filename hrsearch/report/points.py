"""The trained trials as columns: what the page draws, filters and looks up. Texts and drawings are made in the page."""

import base64
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from hrsearch.arch import Arch
from hrsearch.grammar import yaml_of
from hrsearch.objective import OBJECTIVES, Objective
from hrsearch.pick import trained_of, value_of
from hrsearch.report.effects import in_order
from hrsearch.report.headline import standing_out
from hrsearch.report.words import TITLES, arch_of, design, kinds_of, metric_beside, metric_of, plain, study_argument
from hrsearch.study import Record, Trial
from hrsearch.targets import on_target, targets_of
from hrsearch.trust.confirmed import confirmed

MEASURED = ("latency", "flops", "memory", "training_memory")  # that another device has values of its own of
FORMS = {"score": "score", "latency": "ms", "memory": "bytes", "training_memory": "bytes"}  # others are counts


def points(record: Record) -> dict[str, Any]:
    """Columns of one value per trained trial, in order of their number; None where nothing is known."""
    trials = trained_of(record)
    archs = [arch_of(trial) for trial in trials]
    columns = {name: _column(record, trials, name) for name in TITLES} | _metrics(record, trials)
    views = {"": _view(record, trials, {objective.name: objective.name for objective in record.objectives})}
    for target in targets_of(record):
        there = on_target(record, target)
        found = {name: _column(there, trials, name, f" on {target}") for name in MEASURED}
        names = {name: f"{name} on {target}" for name, column in found.items() if column}
        columns |= {key: found[name] for name, key in names.items()}
        views[target] = _view(there, trials, {one.name: names.get(one.name, one.name) for one in record.objectives})
    return {
        "study": study_argument(record),
        "confirmed": confirmed(record) is not record,  # an export chooses by other scores then
        "number": [trial.number for trial in trials],
        "known": {index: trial.name for index, trial in enumerate(trials) if trial.attributes.get("known")},
        "columns": {key: column for key, column in columns.items() if column},
        "views": views,
        "knobs": _knobs(trials),
        "kinds": _kinds(archs),
        "design": [design(arch) if arch else "" for arch in archs],
        "winners": {t.number: t.attributes["arch"] for t in standing_out(record).values() if t.attributes.get("arch")},
    }


def archive(record: Record) -> str:
    """What a person sees of one trial only: architecture, YAML, bill, rungs. JSON, deflated, in base 64."""
    plugins = [str(path) for path in record.attributes.get("plugins") or ()]
    rows = [_inside(trial, record.task, plugins) for trial in trained_of(record)]
    packed = zlib.compress(json.dumps(rows, allow_nan=False, separators=(",", ":")).encode(), 6)
    return base64.b64encode(packed).decode()


def _column(record: Record, trials: Sequence[Trial], name: str, where: str = "") -> dict[str, Any] | None:
    """An objective's values and, where it is measured, the ends of their intervals; None where none is known."""
    objective = OBJECTIVES[name]
    known = {trial.number: trial for trial in trained_of(record)}
    values = [value_of(known[one.number], name) if one.number in known else None for one in trials]
    if all(value is None for value in values):
        return None
    title = (metric_of(record) if name == "score" else TITLES[name]) + where
    found = {"title": title, "label": label_of(record, name) + where, "form": FORMS.get(name, "count")}
    ends = [_ends(known[one.number], objective) if one.number in known else None for one in trials]
    interval = {"low": [end and end[0] for end in ends], "high": [end and end[1] for end in ends]}
    wide = any(end and end[0] < end[1] for end in ends)  # a score has an interval once it is confirmed
    more = interval if objective.measured and wide else {}
    return {**found, "best": objective.direction, "limit": name if not where else None, "values": values, **more}


def _metrics(record: Record, trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """The task's metric beside a score that is the likelihood."""
    name = metric_beside(record)
    if name is None:
        return {}
    values = [((trial.attributes.get("score") or {}).get("metrics") or {}).get(name) for trial in trials]
    return {name: {"title": name, "label": name, "form": "score", "best": "maximize", "limit": None, "values": values}}


def label_of(record: Record, name: str) -> str:
    """An axis's title: `mIoU on six_digits`, `latency (ms)`."""
    proxy = record.attributes.get("runner", {}).get("proxy", {})
    where = f" on {proxy['data']}" if "data" in proxy else ""
    return metric_of(record) + where if name == "score" else OBJECTIVES[name].label


def _ends(trial: Trial, objective: Objective) -> tuple[float, float] | None:
    ends = objective.interval(trial.attributes) if value_of(trial, objective.name) is not None else None
    return ends if ends and all(map(math.isfinite, ends)) else None


def _view(record: Record, trials: Sequence[Trial], columns: Mapping[str, str]) -> dict[str, Any]:
    """What a front is made of: the columns that count, and who may stand on it."""
    allowed = {trial.number for trial in record.contenders}
    places = {trial.number: index for index, trial in enumerate(trials)}
    picks = {choice: places[trial.number] for choice, trial in standing_out(record).items()}
    contenders = [index for index, trial in enumerate(trials) if trial.number in allowed]
    return {"objectives": list(columns.values()), "contenders": contenders, "winners": picks}


def _knobs(trials: Sequence[Trial]) -> dict[str, Any]:
    """Each knob that varies: its levels as text, and each trial's place among them.

    -1: the network has no such knob; -2: it was not drawn, a published one.
    """
    names = list(dict.fromkeys(name for trial in trials for name in trial.knobs))
    found = {}
    for name in names:
        levels = in_order(list({repr(t.knobs[name]): t.knobs[name] for t in trials if name in t.knobs}.values()))
        place = {repr(level): index for index, level in enumerate(levels)}
        of = [place[repr(t.knobs[name])] if name in t.knobs else -1 if t.knobs else -2 for t in trials]
        if len(levels) > 1:
            found[name] = {"levels": [plain(level) for level in levels], "of": of}
    return found


def _kinds(archs: Sequence[Arch | None]) -> list[str]:
    """The kinds of blocks of all networks: a kind has one colour on the whole page."""
    return kinds_of(branch for arch in archs if arch for stage in arch.stages for branch in stage.branches)


def _inside(trial: Trial, task: str, plugins: Sequence[str]) -> dict[str, Any]:
    known = trial.attributes
    bill = {name: known[name] for name in ("flops_by_place", "ms_by_place") if known.get(name)}
    scores = [one for one in known.get("rungs") or [known.get("score") or {}] if one.get("steps")]
    rungs = [[one["steps"], one["value"]] for one in scores if math.isfinite(one["value"])]
    losses = [one["losses"] for one in scores if one.get("losses")]  # none in studies of before they were kept
    text = _yaml(trial, task, plugins)
    told = {"arch": known.get("arch"), "yaml": text, "knobs": _texts(trial), **bill, "rungs": rungs}
    return {**told, **({"losses": losses} if losses else {})}


def _texts(trial: Trial) -> dict[str, str]:
    return {name: plain(value) for name, value in trial.knobs.items()}


def _yaml(trial: Trial, task: str, plugins: Sequence[str]) -> str:
    """Empty for a network that the grammar cannot say: a space of code may have one."""
    arch = arch_of(trial)
    try:
        return yaml_of(arch, task, trial.name, plugins) if arch else ""
    except AssertionError:
        return ""
