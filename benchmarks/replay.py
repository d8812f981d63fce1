"""Worlds in which a search can be run again in seconds: candidates that were once trained, or a model of them.

`recorded` holds the candidates of a table and nothing else: a draw becomes the nearest one that is left. A search is
told what the first seed scored; what it has found is what others scored, of those near the front. `modelled` is
the space, with exact costs; scores, losses, latency, seconds and synflow come from Gaussian processes that were
fitted to the table, scores and losses with what the processes leave of a recorded candidate. `boosted` is the same with
boosted trees, in which a search that fits Gaussian processes is not at home. `record.py` makes the table.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct, Matern, WhiteKernel
from sklearn.model_selection import cross_val_predict

from hrsearch.arch import Arch, Value
from hrsearch.objective import Cost
from hrsearch.space import Draw, Knob, Setting, Space

Regressor = Any  # of scikit-learn
Vector = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """What judging a candidate at a rung gives: the score, the task's metric and the loss that a search is told, the
    score without the luck of a seed, and the seconds since the rung before."""

    score: float
    metric: float
    loss: float
    true_score: float
    latency_ms: float
    seconds: float


Judge = Callable[[str, int | None], Outcome]  # of the network with this digest at a rung; None: in full, at once


@dataclass(frozen=True)
class World:
    """A space whose candidates are judged at once, each always alike."""

    name: str
    space: Space
    cost_of: Callable[[Arch], Cost]
    judge: Judge
    untrained: Callable[[Arch], float]  # synflow


@dataclass(frozen=True)
class Table:
    """Candidates that were trained, each with its setting."""

    frame: pd.DataFrame
    settings: tuple[Setting, ...]

    @cached_property
    def last(self) -> int:
        """The highest rung."""
        return max(int(name.removeprefix("score_")) for name in self.frame.columns if name.startswith("score_"))

    @cached_property
    def trained(self) -> list[str]:
        """The columns that come from training, the latency, and synflow."""
        names = [f"{name}_{rung}" for name in ("score", "metric", "loss", "seconds") for rung in range(self.last + 1)]
        return [*names, "seconds", "latency", "synflow"]


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


def read_table(path: Path, space: Space) -> Table:
    """A table of record.py."""
    frame = pd.read_csv(path)
    knobs = [name for name in frame.columns if name.startswith("knob.")]
    rows = frame[knobs].to_dict("records")
    settings = [{str(key).removeprefix("knob."): value for key, value in row.items() if value == value} for row in rows]
    return Table(frame.drop(columns=knobs), tuple(_as_declared(space, setting) for setting in settings))


def recorded(space: Space, table: Table) -> World:
    """The world of the recorded candidates alone.

    The true score is the mean of what other seeds scored than the one that is told, or else, far from the front, that.
    """
    snapping = _Snapping(space.document, space.task, space.knobs, space.require)
    archs = [space.arch(setting) for setting in table.settings]
    found = sorted(zip((arch.digest() for arch in archs), table.settings, archs, strict=True), key=lambda one: one[0])
    left = {digest: (setting, arch, places_of(space, setting)) for digest, setting, arch in found}
    object.__setattr__(snapping, "left", left)
    truth = table.frame.filter(like="again_").mean(axis=1).fillna(table.frame[f"score_{table.last}"])
    figures = table.frame[[*table.trained, "params", "flops"]].assign(truth=truth).to_dict("records")
    rows = {
        arch.digest(): {str(name): float(value) for name, value in row.items()}
        for arch, row in zip(archs, figures, strict=True)
    }

    def judge(digest: str, rung: int | None) -> Outcome:
        row = rows[digest]
        left.pop(digest, None)
        return _outcome(row, row["truth"], rung, table.last)

    def cost_of(arch: Arch) -> Cost:
        row = rows[arch.digest()]
        return Cost(int(row["params"]), int(row["flops"]))

    return World("recorded", snapping, cost_of, judge, lambda arch: rows[arch.digest()]["synflow"])


def _outcome(row: Mapping[str, float], true_score: float, rung: int | None, last: int) -> Outcome:
    at = last if rung is None else rung
    seconds = row["seconds" if rung is None else f"seconds_{rung}"]
    return Outcome(
        row[f"score_{at}"], row[f"metric_{at}"], row[f"loss_{at}"], true_score, row["latency"], seconds=seconds
    )


@dataclass
class Model:
    """What was learnt of a table: a Gaussian process for every column, or boosted trees."""

    space: Space
    table: Table
    boosted: bool = False
    errors: dict[str, float] = field(default_factory=dict)  # share of the variance left, cross-validated

    def __post_init__(self) -> None:
        """Fit."""
        frame = self.table.frame
        self._names = list(self.space.knobs)
        costs = zip(frame["params"], frame["flops"], strict=True)
        raw = np.array([self._raw(setting, *cost) for setting, cost in zip(self.table.settings, costs, strict=True)])
        self._mean, self._scale = raw.mean(axis=0), raw.std(axis=0) + 1e-9
        columns = {
            name: frame[name].to_numpy(float) if _is_noisy(name) else np.log(frame[name].to_numpy(float))
            for name in self.table.trained
        }
        self._range = {name: (values.min(), values.max()) for name, values in columns.items()}
        self._left: dict[str, Vector] = {}
        self._fitted = {name: self._fit((raw - self._mean) / self._scale, name, y) for name, y in columns.items()}

    def predict(self, setting: Setting, cost: Cost, names: Sequence[str] = ()) -> dict[str, float]:
        """These columns, by default all, each kept to a half more than the range that was recorded."""
        row = ((np.array(self._raw(setting, cost.params, cost.flops)) - self._mean) / self._scale)[None]
        found = {}
        for name in names or self._fitted:
            fitted, mean, std = self._fitted[name]
            low, high = self._range[name]
            value = float(fitted.predict(row)[0]) * std + mean
            value = min(max(value, low - 0.5 * (high - low)), high + 0.5 * (high - low))
            found[name] = value if _is_noisy(name) else math.exp(value)
        return found

    def luck(self, digest: str) -> dict[str, float]:
        """What the processes left of the scores and losses of one recorded candidate, which the digest picks.

        One candidate's, so that a score and the losses before it go together as they did.
        """
        place = random.Random(digest).randrange(len(self.table.settings))
        return {name: float(left[place]) for name, left in self._left.items()}

    def _raw(self, setting: Mapping[str, Value], params: float, flops: float) -> list[float]:
        """Every knob by its place among its values, and whether the network has it; logs of the costs."""
        row: list[float] = []
        for name in self._names:
            values = self.space.knobs[name].values
            place = values.index(setting[name]) / max(len(values) - 1, 1) if name in setting else 0.5
            row += [place, float(name in setting)]
        return [*row, math.log(params), math.log(flops)]

    def _fit(self, rows: Vector, name: str, values: Vector) -> tuple[Regressor, float, float]:
        mean, std = float(values.mean()), float(values.std())
        scaled = (values - mean) / std
        regressor = self._trees() if self.boosted else self._process(rows, scaled)
        left = scaled - cross_val_predict(regressor, rows, scaled, cv=10)
        self.errors[name] = float(np.mean(left**2))
        if _is_noisy(name):
            self._left[name] = left * std
        return regressor.fit(rows, scaled), mean, std

    def _process(self, rows: Vector, scaled: Vector) -> Regressor:
        """A process with the parameters that fit all rows."""
        kernel = 0.5 * Matern(5.0, nu=2.5) + 0.1 * DotProduct() + WhiteKernel(0.1, (1e-3, 1.0))
        learnt = GaussianProcessRegressor(kernel, n_restarts_optimizer=0, random_state=0).fit(rows, scaled).kernel_
        return GaussianProcessRegressor(learnt, optimizer=None)

    def _trees(self) -> Regressor:
        return HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=8)


def modelled(space: Space, model: Model, cost_of: Callable[[Arch], Cost], costs: dict[str, Cost]) -> World:
    """The whole space, judged by the model; the luck of a candidate follows from the network's digest.

    `costs` remembers what was counted, from one world to the next.
    """
    noting = _Noting(space.document, space.task, space.knobs, space.require)
    settings: dict[str, Setting] = {}
    object.__setattr__(noting, "settings", settings)
    last = model.table.last

    def counted(arch: Arch) -> Cost:
        digest = arch.digest()
        if digest not in costs:
            cost = cost_of(arch)
            costs[digest] = Cost(cost.params, cost.flops)
        return costs[digest]

    @cache
    def row_of(digest: str) -> dict[str, float]:
        return model.predict(settings[digest], costs[digest])

    @cache
    def untrained(digest: str) -> float:
        return model.predict(settings[digest], costs[digest], ("synflow",))["synflow"]

    def judge(digest: str, rung: int | None) -> Outcome:
        row, luck = row_of(digest), model.luck(digest)
        told = {name: value + luck.get(name, 0.0) for name, value in row.items()}
        return _outcome(told, row[f"score_{last}"], rung, last)

    name = "boosted" if model.boosted else "modelled"
    return World(name, noting, counted, judge, lambda arch: untrained(arch.digest()))


def _is_noisy(name: str) -> bool:
    """Whether a column is a score, a metric or a loss, which luck is added to; of the others the logarithm is taken."""
    return name.startswith(("score", "metric", "loss"))


def _as_declared(space: Space, setting: Mapping[str, Any]) -> Setting:
    """The values as the space has them: a CSV makes 4.0 of 4."""
    found: Setting = {}
    for name, value in setting.items():
        declared = [one for one in space.knobs[name].values if one == value or str(one) == str(value)]
        if not declared:
            raise ValueError(f"knob {name!r} is {value!r} in the table; the space has {space.knobs[name].values}")
        found[name] = declared[0]
    return found
