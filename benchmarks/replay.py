"""Worlds in which a search can be run again in seconds: candidates that were once trained, or a model of them.

`recorded` holds the candidates of a table and nothing else: a draw becomes the nearest one that is left. `modelled` is
the space, without values that are rare in the table, with exact costs; score, latency and training seconds come from a
Gaussian process that was fitted to the table, the score with noise. A table has a row per trained candidate (`table_of`
makes one from a study; its CSV may be packed): `digest`, `params`, `flops`, `latency`, `score_0`, `score_1`, ... and
`seconds_0`, `seconds_1`, ... for every rung that it was trained to, the last one being full training, and `knob.NAME`
for every knob.
"""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct, Matern, WhiteKernel
from sklearn.model_selection import cross_val_predict

from hrsearch.arch import Arch, Value
from hrsearch.objective import Cost
from hrsearch.space import Draw, Knob, Setting, Space
from hrsearch.study import read_study

Vector = NDArray[np.float64]
Places = NDArray[np.int64]
COMMON = 0.04  # share of the recorded candidates with a knob that have a value of it


@dataclass(frozen=True)
class Outcome:
    """What judging a candidate gives: the score that a search is told, and the one without the luck of its seed."""

    score: float
    true_score: float
    latency_ms: float
    seconds: float


@dataclass(frozen=True)
class World:
    """A space whose candidates are judged at once, each always alike."""

    name: str
    space: Space
    cost_of: Callable[[Arch], Cost]
    judge: Callable[[str], Outcome]  # by the network's digest


@dataclass(frozen=True)
class Table:
    """Candidates that were trained, each with its setting."""

    frame: pd.DataFrame
    settings: tuple[Setting, ...]

    @cached_property
    def last(self) -> int:
        """The highest rung."""
        return max(int(name.removeprefix("score_")) for name in self.frame.columns if name.startswith("score_"))


class _Snapping(Space):
    """Draws the recorded network nearest to what was chosen, among those that were not judged before."""

    known = ()
    left: dict[str, tuple[Setting, Arch, Places]]  # by digest, in order

    def draw(self, choose: Callable[[Knob], Value]) -> Draw:
        """The nearest by the share of knobs that differ, a knob that only one of the two has included."""
        asked = places_of(self, super().draw(choose).setting)
        found = list(self.left.values())
        others = np.array([places for _, _, places in found])
        read = (others >= 0) | (asked >= 0)
        nearest = int(np.argmin((others != asked).sum(axis=1) / read.sum(axis=1)))
        return Draw(*found[nearest][:2])


class _Noting(Space):
    """Remembers the setting of every network that it draws."""

    known = ()
    settings: dict[str, Setting]

    def draw(self, choose: Callable[[Knob], Value]) -> Draw:
        """As the space draws."""
        draw = super().draw(choose)
        if draw.arch is not None:
            self.settings[draw.arch.digest()] = draw.setting
        return draw


def places_of(space: Space, setting: Mapping[str, Value]) -> Places:
    """The place of each knob's value among its values, -1 for a knob that is not read."""
    places = [knob.values.index(setting[name]) if name in setting else -1 for name, knob in space.knobs.items()]
    return np.array(places)


def table_of(study: Path) -> Table:
    """The drawn candidates of a study of one fidelity."""
    trials = [trial for trial in read_study(study).trained if trial.knobs]
    rows = [
        {
            "digest": trial.attributes["digest"],
            "params": trial.attributes["params"],
            "flops": trial.attributes["flops"],
            "latency": trial.attributes["latency"]["median_ms"],
            "score_0": trial.attributes["score"]["value"],
            "seconds_0": trial.attributes["seconds"],
        }
        for trial in trials
    ]
    return Table(pd.DataFrame(rows), tuple(dict(trial.knobs) for trial in trials))


def read_table(path: Path) -> Table:
    """A study's folder, or a table as CSV, packed or not."""
    if path.is_dir():
        return table_of(path)
    frame = pd.read_csv(path)
    knobs = [name for name in frame.columns if name.startswith("knob.")]
    rows = frame[knobs].to_dict("records")
    settings = [{str(key).removeprefix("knob."): value for key, value in row.items() if value == value} for row in rows]
    return Table(frame.drop(columns=knobs), tuple(settings))


def recorded(space: Space, table: Table) -> World:
    """The world of the recorded candidates alone; their noise stays in them, so the true score is the told one."""
    settings = [_as_declared(space, setting) for setting in table.settings]
    snapping = _Snapping(space.document, space.task, space.knobs, space.require)
    archs = [space.arch(setting) for setting in settings]
    found = sorted(zip((arch.digest() for arch in archs), settings, archs, strict=True), key=lambda one: one[0])
    left = {digest: (setting, arch, places_of(space, setting)) for digest, setting, arch in found}
    object.__setattr__(snapping, "left", left)
    rows = {arch.digest(): row for arch, (_, row) in zip(archs, table.frame.iterrows(), strict=True)}
    last = table.last

    def judge(digest: str) -> Outcome:
        row = rows[digest]
        del left[digest]
        score = float(row[f"score_{last}"])
        seconds = sum(float(row[f"seconds_{rung}"]) for rung in range(last + 1))
        return Outcome(score, score, float(row["latency"]), seconds)

    def cost_of(arch: Arch) -> Cost:
        row = rows[arch.digest()]
        return Cost(int(row["params"]), int(row["flops"]))

    return World("recorded", snapping, cost_of, judge)


@dataclass
class Model:
    """What was learnt of a table: a Gaussian process for the score, for log latency and for log seconds."""

    space: Space
    table: Table
    noise: float  # standard deviation of a score between seeds
    errors: dict[str, float] = field(default_factory=dict)  # share of the variance left, cross-validated

    def __post_init__(self) -> None:
        """Fit."""
        frame, last = self.table.frame, self.table.last
        self._names = list(self.space.knobs)
        settings = [_as_declared(self.space, setting) for setting in self.table.settings]
        costs = zip(frame["params"], frame["flops"], strict=True)
        raw = np.array([self._raw(setting, *cost) for setting, cost in zip(settings, costs, strict=True)])
        self._mean, self._scale = raw.mean(axis=0), raw.std(axis=0) + 1e-9
        columns = {
            "score": frame[f"score_{last}"].to_numpy(float),
            "latency": np.log(frame["latency"].to_numpy(float)),
            "seconds": np.log(sum(frame[f"seconds_{rung}"].to_numpy(float) for rung in range(last + 1))),
        }
        self._range = {name: (values.min(), values.max()) for name, values in columns.items()}
        self._fitted = {name: self._fit((raw - self._mean) / self._scale, name, y) for name, y in columns.items()}

    def predict(self, setting: Setting, cost: Cost) -> dict[str, float]:
        """Score, log latency and log seconds, kept to a half more than the range that was recorded."""
        row = ((np.array(self._raw(setting, cost.params, cost.flops)) - self._mean) / self._scale)[None]
        found = {}
        for name, (fitted, mean, std) in self._fitted.items():
            low, high = self._range[name]
            value = float(fitted.predict(row)[0]) * std + mean
            found[name] = min(max(value, low - 0.5 * (high - low)), high + 0.5 * (high - low))
        return found

    def _raw(self, setting: Mapping[str, Value], params: float, flops: float) -> list[float]:
        """Every knob by its place among its values, and whether the network has it; logs of the costs."""
        row: list[float] = []
        for name in self._names:
            values = self.space.knobs[name].values
            place = values.index(setting[name]) / max(len(values) - 1, 1) if name in setting else 0.5
            row += [place, float(name in setting)]
        return [*row, math.log(params), math.log(flops)]

    def _fit(self, rows: Vector, name: str, values: Vector) -> tuple[GaussianProcessRegressor, float, float]:
        mean, std = float(values.mean()), float(values.std())
        kernel = 0.5 * Matern(5.0, nu=2.5) + 0.1 * DotProduct() + WhiteKernel(0.1, (1e-3, 1.0))
        process = GaussianProcessRegressor(kernel, n_restarts_optimizer=0, random_state=0)
        scaled = (values - mean) / std
        process.fit(rows, scaled)
        fixed = GaussianProcessRegressor(process.kernel_, optimizer=None)
        self.errors[name] = float(np.mean((cross_val_predict(fixed, rows, scaled, cv=10) - scaled) ** 2))
        return process, mean, std


def narrowed(space: Space, table: Table) -> Space:
    """The space without the values that hardly any recorded candidate has: a model knows nothing of them."""
    settings = [_as_declared(space, setting) for setting in table.settings]
    knobs = {}
    for name, knob in space.knobs.items():
        held = [setting[name] for setting in settings if name in setting]
        kept = tuple(value for value in knob.values if held.count(value) >= COMMON * len(held))
        knobs[name] = Knob(name, kept)
    return replace(space, knobs=knobs)


def modelled(space: Space, model: Model, cost_of: Callable[[Arch], Cost], costs: dict[str, Cost]) -> World:
    """The whole space, judged by the model; the noise of a score follows from the network's digest.

    `costs` remembers what was counted, from one world to the next.
    """
    noting = _Noting(space.document, space.task, space.knobs, space.require)
    settings: dict[str, Setting] = {}
    object.__setattr__(noting, "settings", settings)

    def counted(arch: Arch) -> Cost:
        digest = arch.digest()
        if digest not in costs:
            cost = cost_of(arch)
            costs[digest] = Cost(cost.params, cost.flops)
        return costs[digest]

    def judge(digest: str) -> Outcome:
        found = model.predict(settings[digest], costs[digest])
        luck = random.Random(digest).gauss(0.0, model.noise)
        return Outcome(found["score"] + luck, found["score"], math.exp(found["latency"]), math.exp(found["seconds"]))

    return World("modelled", noting, counted, judge)


def _as_declared(space: Space, setting: Mapping[str, Any]) -> Setting:
    """The values as the space has them: a CSV makes 4.0 of 4."""
    found: Setting = {}
    for name, value in setting.items():
        declared = [one for one in space.knobs[name].values if one == value or str(one) == str(value)]
        if not declared:
            raise ValueError(f"knob {name!r} is {value!r} in the table; the space has {space.knobs[name].values}")
        found[name] = declared[0]
    return found
