"""What is known of a candidate, the objectives it is judged by and the limits it must keep."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hrsearch.errors import InputError, suggestion


@dataclass(frozen=True)
class Cost:
    """Exact costs of one image. FLOPs are multiply-accumulates: one multiply-accumulate is one.

    `flops_by_part` and `params_by_part` are keyed by the path of the part in the network; each sums to its total.
    """

    params: int
    flops: int
    params_by_part: Mapping[str, int] = field(default_factory=dict)
    flops_by_part: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one forward pass of a batch: the median and a 95 % interval of it, corrected for drift.

    The rest is its certificate: what was done to get it, and where.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    runs: int
    batch: int
    image: tuple[int, int]
    engine: str
    device: str
    threads: int
    steady: bool
    wall_ms: float  # uncorrected wall time, as a stopwatch shows it
    reference_ms: float  # the reference network's median beside it
    cpu_ms: float | None = None  # uncorrected CPU time of all threads
    warm_up: int = 0  # runs before the first sample
    tries: int = 1  # measurements that it was made of: more than one where they were not steady
    trouble: str = ""  # why it is not steady
    load: float | None = None  # the machine's, over the last minute
    clock_mhz: float | None = None  # the processor's, where the system says
    versions: Mapping[str, str] = field(default_factory=dict)
    output: str = ""  # what a program of the user's printed (engine "command")


@dataclass(frozen=True)
class Memory:
    """Peak bytes of one forward pass or one training step of a batch: parameters, buffers and images included."""

    bytes: int
    of: Literal["forward pass", "training step"]
    how: str  # counted or measured, and what
    device: str
    image: tuple[int, int]
    batch: int


LIKELIHOOD = "likelihood"  # the metric of a score that is exp(-loss)


@dataclass(frozen=True)
class Score:
    """The outcome of proxy training: `value` in [0, 1], higher is better.

    After no steps it is what a zero-cost proxy says, in that one's own units, and the loss its negative.
    """

    value: float
    metric: str
    rung: int
    steps: int
    images: int
    seconds: float
    seed: int
    loss: float  # mean over the validation images; each has trained on batches of its own, of which none tells as much
    losses: tuple[tuple[int, float], ...] = ()  # mean training loss of every tenth of the schedule, after its last step
    metrics: Mapping[str, float] = field(default_factory=dict)  # all that was found on the validation images, by name


def task_metric(score: Mapping[str, Any]) -> tuple[str, float]:
    """Name and value of the task's metric in a `Score` as a study keeps it, also in one that is the likelihood."""
    value = float(score["value"])
    known = {str(score.get("metric", "score")): value, **(score.get("metrics") or {})}
    return next(((name, one) for name, one in known.items() if name != LIKELIHOOD), (LIKELIHOOD, value))


@dataclass(frozen=True)
class Objective:
    """One axis of the front. `of` reads it from a trial's attributes, None where it is not known."""

    name: str
    unit: str
    direction: Literal["maximize", "minimize"]
    of: Callable[[Mapping[str, Any]], float | None]
    label: str
    measured: str | None = None  # the attribute that holds the interval, where it is measured with noise
    ends: tuple[str, str] = ("low", "high")  # the interval's keys there

    def interval(self, attributes: Mapping[str, Any]) -> tuple[float, float] | None:
        """The lowest and the highest value that the noise of its measurement allows; None where it is not known."""
        value = self.of(attributes)
        if value is None:
            return None
        known = (attributes.get(self.measured) or {}) if self.measured else {}
        low, high = (known.get(end) for end in self.ends)
        return (value if low is None else low), (value if high is None else high)


def _inside(attribute: str, key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda attributes: (attributes.get(attribute) or {}).get(key)


def _plain(attribute: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda attributes: attributes.get(attribute)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("score", "", "maximize", _inside("score", "value"), "score", "score"),  # confirmed ones have ends
        Objective("flops", "", "minimize", _plain("flops"), "FLOPs (multiply-accumulates)"),
        Objective(
            "latency",
            "ms",
            "minimize",
            _inside("latency", "median_ms"),
            "latency (ms)",
            "latency",
            ("low_ms", "high_ms"),
        ),
        Objective("params", "", "minimize", _plain("params"), "parameters"),
        Objective("memory", "B", "minimize", _inside("memory", "bytes"), "peak memory (bytes)"),
        Objective(
            "training_memory", "B", "minimize", _inside("training_memory", "bytes"), "peak memory in training (bytes)"
        ),
    )
}

_SIZES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_SUFFIXES: dict[str, dict[str, float]] = {  # of a limit, by the objective's unit
    "": _SIZES,
    "B": _SIZES | {f"{size}B": factor for size, factor in _SIZES.items()},
    "ms": {"": 1.0, "ms": 1.0, "s": 1e3},
}


@dataclass(frozen=True)
class Limit:
    """A bound on an objective that candidates must keep."""

    objective: str
    bound: float
    kind: Literal["at_most", "at_least"]

    def violation(self, value: float) -> float:
        """How far `value` is beyond the bound, relative to it: positive exactly when the limit is broken."""
        return value / self.bound - 1 if self.kind == "at_most" else 1 - value / self.bound

    def __str__(self) -> str:
        sign = "<=" if self.kind == "at_most" else ">="
        return f"{self.objective}{sign}{_short(self.bound, OBJECTIVES[self.objective].unit, exactly=True)}"


def objective_of(name: str) -> Objective:
    """The objective called `name`; an unknown name is an InputError."""
    if name not in OBJECTIVES:
        raise InputError(f"objective {name!r} does not exist; {suggestion(name, OBJECTIVES)}")
    return OBJECTIVES[name]


def parse_limit(text: str) -> Limit:
    """`flops=5G`, `latency<=30ms`, `memory<=200M`, `score>=0.3`: a limit.

    `=` means at most for costs and at least for the score. Bytes may be written with their B.
    """
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|=)\s*([0-9.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*", text)
    if not match:
        raise InputError(f"limit {text!r} cannot be read; write for example flops=5G, latency<=30ms or params=10M")
    objective = objective_of(match[1])
    suffixes = _SUFFIXES[objective.unit] if objective.direction == "minimize" else {"": 1.0}
    if match[4] not in suffixes:
        units = ", ".join(filter(None, suffixes))
        what = f"its units are {units}" if units else "write a number from 0 to 1"
        raise InputError(f"limit {text!r}: {match[4]!r} is no unit of {objective.name}; {what}")
    natural = "<=" if objective.direction == "minimize" else ">="
    kind: Literal["at_most", "at_least"] = "at_most" if match[2].replace("=", natural)[0] == "<" else "at_least"
    try:
        bound = float(match[3]) * suffixes[match[4]]
    except ValueError:
        raise InputError(f"limit {text!r}: {match[3]!r} is no number") from None
    if bound <= 0:
        raise InputError(f"limit {text!r}: the bound must be positive, but got {bound:g}")
    if objective.direction == "maximize" and bound > 1:
        raise InputError(f"limit {text!r}: a {objective.name} is a number from 0 to 1, so none keeps that")
    return Limit(objective.name, bound, kind)


def readable(value: float, unit: str = "") -> str:
    """`value` with three significant digits and a suffix: 5.01G, 12.3M, 184MB, 41.2ms, 1230ms."""
    return f"{value:.0f}{unit}" if unit == "ms" and abs(value) >= 999.5 else _short(value, unit)


def _short(value: float, unit: str, *, exactly: bool = False) -> str:
    """With three digits; or `exactly`, as limits stand in studies, where their text says which limit was broken."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (size if exactly else 0.9995 * size) and unit in ("", "B"):
            return f"{_digits(value / size, exactly)}{suffix}{unit}"
    return f"{_digits(value, exactly)}{unit}"


def _digits(value: float, exactly: bool) -> str:
    rounded = f"{value:.3g}"  # 2e+03, as studies have it
    return f"{value:.12g}" if exactly and float(rounded) != value else rounded
