"""What the report says in words: figures with their units, a design in one line, outcomes and their reasons."""

import re
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hrsearch.arch import Arch, Branch
from hrsearch.objective import LIKELIHOOD, objective_of
from hrsearch.pick import value_of
from hrsearch.study import Record, Trial

NOTHING = "–"
_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
TITLES = {
    "score": "Score",
    "latency": "Latency",
    "flops": "FLOPs",
    "params": "Params",
    "memory": "Memory",
    "training_memory": "Memory in training",
}


@dataclass(frozen=True)
class Outcome:
    """How some trials ended, and why: "failed" for one reason, for example."""

    state: str
    reason: str
    numbers: tuple[int, ...]


def shown(name: str, value: float | None) -> str:
    """A value of an objective as a person writes it: 0.412, 41.2 ms, 5.01 G, 184 MB."""
    if value is None:
        return NOTHING
    if name == "score":
        return f"{value:.3f}"
    if name == "latency":
        return f"{digits(value)} ms"
    size, suffix = next((one for one in _SIZES if value >= one[0]), (1, ""))
    return f"{digits(value / size)} {suffix}{objective_of(name).unit}".rstrip()


def digits(value: float) -> str:
    """Three significant digits: 1.20, 41.2, 1230."""
    return f"{value:#.3g}".rstrip(".") if 1e-3 <= abs(value) < 999.5 else f"{value:,.0f}"


def shown_of(trial: Trial, name: str) -> str:
    """What is known of the trial in an objective, as a person writes it."""
    return shown(name, value_of(trial, name))


def interval_of(trial: Trial) -> str:
    """The 95 % interval of the median latency: 40.3–42.5; empty where nothing was measured."""
    latency = trial.attributes.get("latency") or {}
    ends = [latency[key] for key in ("low_ms", "high_ms") if latency.get(key) is not None]
    return "–".join(digits(end) for end in ends) if len(ends) == 2 else ""


def metric_of(record: Record) -> str:
    """What the score is: "mIoU", "top-1" or "PCK@0.1", or "score" before anything is trained."""
    scores = (trial.attributes.get("score") or {} for trial in record.trials)
    trained = (score["metric"] for score in scores if score.get("metric") and score.get("steps", 1))
    return str(next(trained, "score"))


def metric_beside(record: Record) -> str | None:
    """The task's metric beside a score that is the likelihood; None where the score is the metric, or is alone."""
    scores = [trial.attributes.get("score") or {} for trial in record.trials] if metric_of(record) == LIKELIHOOD else []
    return next((name for score in scores for name in score.get("metrics") or {} if name != LIKELIHOOD), None)


def arch_of(trial: Trial) -> Arch | None:
    """The trial's network, None where it was not recorded."""
    data = trial.attributes.get("arch")
    return Arch.from_dict(data) if data else None


def design(arch: Arch) -> str:
    """A network in one line: `16·32·64·128 channels, 6·5·16·4 blocks at 1/4 to 1/32, cross, for 512 × 512`."""
    branches = [branch for stage in arch.stages for branch in stage.branches]
    strides = sorted({branch.stride for branch in branches})
    rows = [[branch for branch in branches if branch.stride == stride] for stride in strides]
    channels = "·".join(str(row[-1].channels) for row in rows)
    depths = "·".join(str(sum(branch.depth for branch in row)) for row in rows)
    where = f"1/{strides[0]}" + (f" to 1/{strides[-1]}" if len(strides) > 1 else "")
    size = [f"for {plain(arch.image)}"] if arch.image else []
    return ", ".join([f"{channels} channels", f"{depths} blocks at {where}", *kinds_of(branches), *size])


def kinds_of(branches: Iterable[Branch]) -> list[str]:
    """The kinds of blocks, in order of appearance."""
    return list(dict.fromkeys(branch.block.kind for branch in branches if branch.block))


def design_of(trial: Trial) -> str:
    """The trial's network in one line."""
    arch = arch_of(trial)
    return design(arch) if arch else NOTHING


def outcomes(record: Record) -> list[Outcome]:
    """Trials that were not trained, by state and reason, the most frequent reason of a state first."""
    groups: dict[tuple[str, str], list[int]] = {}
    for trial in record.trials:
        if trial.state != "trained":
            groups.setdefault((_state(trial), _reason(trial)), []).append(trial.number)
    found = (Outcome(state, reason, tuple(numbers)) for (state, reason), numbers in groups.items())
    order = ["refused", "stopped", "failed", "lost", "waiting", "running"]  # any other state comes last
    rank = {state: index for index, state in enumerate(order)}
    return sorted(found, key=lambda one: (rank.get(one.state, len(order)), -len(one.numbers), one.reason))


def _state(trial: Trial) -> str:
    lease = trial.attributes.get("lease")
    return "lost" if trial.state == "running" and lease is not None and lease < time.time() else trial.state


def _reason(trial: Trial) -> str:
    """The reason without its numbers, so that the same reason counts as one; broken limits by their text."""
    state = _state(trial)
    if state == "waiting":
        return "judged at a rung, and perhaps sent on"
    if state == "running":
        return "being judged when this page was written"
    if state == "lost":
        return "its process went away; the next run judges it again"
    broken = [text for text, violation in (trial.attributes.get("violations") or {}).items() if violation > 0]
    if state == "refused" and broken:
        return f"breaks {' and '.join(broken)}"
    if state == "failed" and "memory" in broken:
        return "out of memory"
    reason = str(trial.attributes.get("reason") or "no reason was recorded")
    return re.sub(r"(?<![\w.])-?\d+(\.\d+)?(e[+-]?\d+)?(?![\w.])", "…", reason)


def spelled(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """`1 trial`, `200 trials`."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `1 h 42 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def study_argument(record: Record) -> str:
    """What the command line calls the study: its name if it lies in `studies`, else its folder."""
    home = record.folder == Path("studies") / record.name
    return shlex.quote(record.name if home else str(record.folder))


def plain(value: Any) -> str:
    """A setting as text: lists as 512 × 512 or a, b, c."""
    if isinstance(value, list | tuple):
        pair = len(value) == 2 and all(isinstance(item, int) for item in value)
        return (" × " if pair else ", ").join(plain(item) for item in value) or NOTHING
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
