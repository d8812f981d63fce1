"""What is forecast of networks: better than a guess, sure where it may be, and the same on any machine."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hrsearch.arch import Arch, Branch, Part, Stage
from hrsearch.search import surrogate
from hrsearch.search.surrogate import Row, features, forecast, said_by, shape_of, usual_of, weights_of
from hrsearch.space import load_arch

CHOICES = {"stages": (4, 5), "width": (8, 16, 32), "lift": ("a",)}


def drawn(count: int, seed: int, columns: int = 12) -> list[Row]:
    generator = np.random.default_rng(seed)
    return [tuple(row) for row in generator.choice([0.0, 0.5, 1.0], (count, columns)).tolist()]


def truth(row: Row) -> float:
    """A trend in some columns, a bend in another, nothing in the rest."""
    return 0.3 * row[0] - 0.2 * row[1] + 0.4 * row[2] * (1 - row[2]) + 0.5


def test_a_network_becomes_a_row_of_its_knobs_its_shape_and_its_costs() -> None:
    shapes = [
        one.to_dict() for one in (load_arch("hrvit_b1"), arch([branch(3, 1), branch(6, 2, 2)], [branch(7, 2, 1)]))
    ]
    settings: list[dict[str, Any]] = [{"stages": 5, "width": 16}, {"lift": "a"}]
    one, other = features(settings, CHOICES, [[np.e], [0]], shapes)
    assert one[:6] == pytest.approx((1, 1, 0.5, 1, 0.5, 0))
    assert other[:6] == pytest.approx((0.5, 0, 0.5, 0, 0, 1))
    assert (one[-1], other[-1]) == (1, 0)
    assert (len(one), one[6:-1]) == (len(other), shape_of(shapes[0]))
    assert set(weights_of(len(CHOICES))) == set(range(6))


def test_what_a_zero_cost_proxy_says_is_a_column_of_its_own_after_the_knobs() -> None:
    shapes = [load_arch("hrvit_b1").to_dict()] * 3
    settings: list[dict[str, Any]] = [{"stages": 5, "width": 16}] * 3
    plain = features(settings, CHOICES, [[1]] * 3, shapes)
    said: list[float | None] = [np.e - 1, 1 - np.e, None]
    usual = usual_of(said)
    assert usual == 0
    told = features(settings, CHOICES, [[1]] * 3, shapes, said_by(said, usual))
    assert [row[6] for row in told] == pytest.approx([1, -1, 0])  # logarithms of either sign; nothing said: the mean
    assert [(*row[:6], *row[7:]) for row in told] == plain
    assert usual_of([1.0, None, None]) is usual_of([]) is None  # too few have a value
    first = [float(place) for place in range(10)]
    assert usual_of(first) == usual_of([*first, 1e9])  # rows stay as they are
    knobs = len(CHOICES)
    weights = [weights_of(knobs, told, values)[6] for values in ([1, -1, 0], [-2, 2, 0], [3, 3, 3], [1, 1, -2])]
    assert weights == pytest.approx([surrogate.UNTRAINED, surrogate.UNTRAINED, surrogate.KNOB, surrogate.KNOB])
    assert weights_of(knobs, told, [5, 1, 1])[6] == pytest.approx(surrogate.UNTRAINED * 0.75**0.5)
    many, values = told[:2] * 17, [1.0, -1.0] * 17  # of 34 the first 33 count, as for all that is fitted
    assert weights_of(knobs, many, [*values[:-1], 9.0]) == weights_of(knobs, many, values)
    assert weights_of(knobs) == {key: one for key, one in weights_of(knobs, told, [1, 2, 3]).items() if key != 6}


def test_a_shape_tells_of_the_head_s_maps_and_of_the_blocks_of_every_stage() -> None:
    stem, stages = [branch(3, 1)], [branch(6, 2, 2), branch(9, 4, 1)]
    made = arch(stem, stages, [branch(7, 2, 1), branch(5, 4)])
    found = np.expm1(shape_of(made.to_dict()))
    assert found[[0, 1, 2, 6, 7]] + 1 == pytest.approx([2, 2, 3, 7, 5])  # stride, maps, stem, channels
    assert found[[3, 4, 12, 13]] == pytest.approx([32, 4, 3, 1])  # the head's width, blocks in all, blocks of each map
    assert found[[5, 8, 9, 10, 11, 14, 15, 16, 17]] == pytest.approx([0] * 9)  # no image of its own, no further maps
    imaged = shape_of({**made.to_dict(), "image": [448, 320], "head": {"kind": "mine", "width": "any"}})
    assert np.exp(imaged)[[3, 5]] == pytest.approx([1, 448])


def branch(channels: int, stride: int, depth: int = 0) -> Branch:
    return Branch(channels, stride, depth, Part.of("hr", {}) if depth else None)


def arch(*stages: list[Branch]) -> Arch:
    return Arch(tuple(Stage(Part.of("keep", {}), tuple(one)) for one in stages), Part.of("segformer", {"width": 32}))


@pytest.mark.parametrize("count", [30, 90, 300])
def test_a_forecast_leaves_little_open_and_the_luck_of_seeds_out(count: int) -> None:
    known, asked = drawn(count, 0), drawn(60, 1)
    luck = random.Random(2)
    found = forecast(known, [truth(row) + luck.gauss(0, 0.05) for row in known], asked)
    right = np.array([truth(row) for row in asked])
    assert np.mean((found.mean - right) ** 2) < {30: 0.35, 90: 0.2, 300: 0.1}[count] * right.var()
    assert np.mean(np.abs(found.mean - right) < 3 * found.deviation + 0.02) > 0.7  # a bend may pass for luck
    assert found.deviation.mean() < {30: 0.1, 90: 0.06, 300: 0.05}[count]


def test_what_was_seen_often_is_sure_and_what_lies_far_is_not() -> None:
    luck = random.Random(0)
    known = drawn(10, 0) * 8
    found = forecast(known, [truth(row) + luck.gauss(0, 0.05) for row in known], [known[0], tuple([9.0] * 12)])
    assert found.deviation[0] < 0.03 < found.deviation[1]


@pytest.mark.parametrize("value", [lambda row: 0.5, lambda row: row[0]])
def test_what_is_always_alike_or_without_luck_is_no_trouble(value: Callable[[Row], float]) -> None:
    known = drawn(20, 0, columns=3)
    found = forecast(known, [value(row) for row in known], known)
    assert found.mean == pytest.approx([value(row) for row in known], abs=0.15)  # of few, some of it passes for luck


def test_a_column_of_more_weight_tells_more() -> None:
    generator = random.Random(0)
    known = [(*row, generator.random()) for row in drawn(40, 0, columns=20)]
    asked = [(*row, generator.random()) for row in drawn(40, 1, columns=20)]
    right = np.array([np.sin(5 * row[-1]) for row in asked])
    errors = [
        np.mean((forecast(known, [np.sin(5 * row[-1]) for row in known], asked, weights).mean - right) ** 2)
        for weights in (None, {-1: 3.0})
    ]
    assert errors[1] < errors[0]


def test_of_many_rows_the_newest_that_were_measured_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, asked = drawn(220, 0), drawn(20, 1)
    outdated, newest, guessed = rows[:120], rows[120:200], rows[200:]
    values = [truth(row) - 0.5 for row in outdated] + [truth(row) for row in newest] + [0.0] * len(guessed)
    right = np.array([truth(row) for row in asked])
    errors = []
    for most in (80, 220):
        monkeypatch.setattr(surrogate, "MOST", most)
        errors.append(np.abs(forecast(rows, values, asked, sure=200).mean - right).mean())
    assert errors[0] < 0.1 < errors[1]


def test_how_many_threads_there_are_changes_nothing() -> None:
    known, asked = drawn(150, 0, columns=40), drawn(5, 1, columns=40)
    values = [truth(row) for row in known]
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(forecast(known, values, asked))
    assert found[0].mean.tolist() == found[1].mean.tolist()
    assert found[0].deviation.tolist() == found[1].deviation.tolist()
