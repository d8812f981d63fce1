"""Fronts, volumes and knees against brute-force twins and Optuna's own."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from hrsearch.front import (
    Range,
    best_first,
    best_of,
    hypervolume,
    hypervolume_growth,
    knee,
    non_dominated,
    not_surely_dominated,
    ranges_of,
)

patient = settings(deadline=None, max_examples=60)  # on a loaded machine a deadline fails by chance
MINIMIZE_TWO = ("minimize", "minimize")


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[str]]:
    """Points on a small grid, so that ties and equal points are common, and a direction per objective."""
    dimensions = draw(st.integers(1, 4))
    directions = draw(st.lists(st.sampled_from(["maximize", "minimize"]), min_size=dimensions, max_size=dimensions))
    value = st.integers(0, 5).map(float)
    points = draw(st.lists(st.lists(value, min_size=dimensions, max_size=dimensions), max_size=9))
    return points, directions


def signed(points: list[list[float]], directions: list[str]) -> list[list[float]]:
    """The points with every objective minimised."""
    return [
        [-value if way == "maximize" else value for value, way in zip(point, directions, strict=True)]
        for point in points
    ]


def beats(left: list[float], right: list[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and left != right


@patient
@given(problems())
def test_front_is_its_brute_force_twin(problem: tuple[list[list[float]], list[str]]) -> None:
    points, directions = problem
    losses = signed(points, directions)
    expected = [i for i, point in enumerate(losses) if not any(beats(other, point) for other in losses)]
    assert non_dominated(points, directions) == expected


@patient
@given(problems())
def test_without_noise_the_sure_front_is_the_front(problem: tuple[list[list[float]], list[str]]) -> None:
    points, directions = problem
    assert not_surely_dominated(points, points, directions) == non_dominated(points, directions)


@patient
@given(problems(), st.data())
def test_the_sure_front_is_its_brute_force_twin(
    problem: tuple[list[list[float]], list[str]], data: st.DataObject
) -> None:
    points, directions = problem
    noise = [[data.draw(st.integers(0, 2)) for _ in point] for point in points]
    low = [[value - each for value, each in zip(*rows, strict=True)] for rows in zip(points, noise, strict=True)]
    high = [[value + each for value, each in zip(*rows, strict=True)] for rows in zip(points, noise, strict=True)]
    ends = zip(signed(low, directions), signed(high, directions), strict=True)
    spans = [[sorted(pair) for pair in zip(*rows, strict=True)] for rows in ends]
    best = [[pair[0] for pair in rows] for rows in spans]
    worst = [[pair[1] for pair in rows] for rows in spans]
    expected = [i for i, point in enumerate(best) if not any(beats(other, point) for other in worst)]
    chosen = not_surely_dominated(low, high, directions)
    assert chosen == expected
    assert set(non_dominated(points, directions)) <= set(chosen)


@patient
@given(problems())
def test_volume_counts_the_unit_cells_that_are_dominated(problem: tuple[list[list[float]], list[str]]) -> None:
    points, directions = problem
    losses = signed(points, directions)
    corner = [1.0 if way == "maximize" else 4.0 for way in directions]
    low = [-5 if way == "maximize" else 0 for way in directions]
    (reference,) = signed([corner], directions)
    cells = product(*(range(start, int(end)) for start, end in zip(low, reference, strict=True)))
    dominated = sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in losses) for cell in cells)
    assert hypervolume(points, directions, corner) == pytest.approx(dominated)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_volume_equals_optunas(dimensions: int, count: int) -> None:
    losses = np.random.default_rng(count).random((count, dimensions))
    reference = np.full(dimensions, 0.9)
    kept = losses[(losses < reference).all(axis=1)]
    expected = compute_hypervolume(kept, reference) if len(kept) else 0.0
    assert hypervolume(losses.tolist(), ["minimize"] * dimensions, [0.9] * dimensions) == pytest.approx(expected, 1e-12)


@patient
@given(problems())
def test_growth_ends_at_the_volume_of_all_points(problem: tuple[list[list[float]], list[str]]) -> None:
    points, directions = problem
    ranges = [Range(-1.0, 5.0) if way == "maximize" else Range(7.0, 0.0) for way in directions]
    growth = hypervolume_growth(points, directions, ranges)
    box = math.prod(abs(one.best - one.worst) for one in ranges)
    assert growth == sorted(growth)
    for count, share in enumerate(growth, start=1):
        volume = hypervolume(points[:count], directions, [one.worst for one in ranges])
        assert share == pytest.approx(volume / box)


@patient
@given(problems())
def test_knee_is_on_the_front(problem: tuple[list[list[float]], list[str]]) -> None:
    points, directions = problem
    if points:
        assert knee(points, directions) in non_dominated(points, directions)


def test_front_keeps_equal_points() -> None:
    assert non_dominated([(1, 2), (1, 2), (2, 1), (2, 2)], MINIMIZE_TWO) == [0, 1, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_value_that_is_not_finite_is_no_measurement(bad: float) -> None:
    points = [(bad, 0.0), (1.0, 1.0)]
    assert non_dominated(points, MINIMIZE_TWO) == [1]
    assert hypervolume(points, MINIMIZE_TWO, (2.0, 3.0)) == 2.0
    assert knee(points, MINIMIZE_TWO) == 1
    assert hypervolume_growth(points, MINIMIZE_TWO, [Range(2, 0), Range(2, 0)]) == [0.0, 0.25]
    assert ranges_of(points, MINIMIZE_TWO) == [Range(1.0, 1.0, log=True)] * 2


def test_no_points() -> None:
    assert non_dominated([], MINIMIZE_TWO) == []
    assert hypervolume([], MINIMIZE_TWO, (1.0, 1.0)) == 0.0
    assert hypervolume_growth([], MINIMIZE_TWO, ranges_of([], MINIMIZE_TWO)) == []
    with pytest.raises(ValueError, match="got none"):
        knee([], MINIMIZE_TWO)


def test_knee_is_where_the_front_bends() -> None:
    score_against_ms = [(0.10, 1.0), (0.40, 2.0), (0.45, 40.0), (0.46, 100.0), (0.05, 50.0)]
    assert knee(score_against_ms, ("maximize", "minimize")) == 1


def test_knee_takes_correlated_costs_as_one() -> None:
    alone = [(0.1, 1.0), (0.45, 6.0), (0.5, 100.0)]
    directions = ("maximize", "minimize")
    thrice = [(score, cost, cost * 3, cost / 7) for score, cost in alone]
    assert knee(alone, directions) == knee(thrice, ("maximize", *["minimize"] * 3)) == 1


def test_range_of_costs_is_logarithmic_and_reaches_beyond_the_worst() -> None:
    score, cost = ranges_of([(0.2, 10.0), (0.6, 1000.0)], ("maximize", "minimize"), margin=0.5)
    assert not score.log
    assert cost.log
    assert [score.worst, score.best, cost.worst, cost.best] == pytest.approx([0.0, 0.6, 10_000.0, 10.0])


def test_first_trial_of_a_study_has_a_growth_of_one() -> None:
    points, directions = [(0.3, 5.0)], ("maximize", "minimize")
    assert hypervolume_growth(points, directions, ranges_of(points, directions)) == [1.0]


def test_wrong_direction_or_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'max'"):
        non_dominated([(1.0,)], ["max"])
    with pytest.raises(ValueError, match="one value for each of 2"):
        non_dominated([(1.0,)], MINIMIZE_TWO)


@patient
@given(problems(), st.data())
def test_the_best_of_some_comes_first_among_them(
    problem: tuple[list[list[float]], list[str]], data: st.DataObject
) -> None:
    points, directions = problem
    if points:
        among = data.draw(st.sets(st.integers(0, len(points) - 1), min_size=1))
        order = best_first(points, directions)
        assert best_of(points, directions, among) == next(index for index in order if index in among)


@patient
@given(problems())
def test_within_a_front_those_come_first_that_add_most(problem: tuple[list[list[float]], list[str]]) -> None:
    """Against the volume of all without each."""
    points, directions = problem
    front = [points[index] for index in non_dominated(points, directions)]
    if front:
        ranges = ranges_of(front, directions)
        whole = hypervolume_growth(front, directions, ranges)[-1]
        added = [
            whole - (hypervolume_growth([*front[:place], *front[place + 1 :]], directions, ranges) or [0.0])[-1]
            for place in range(len(front))
        ]
        in_order = [added[index] for index in best_first(front, directions)]
        assert all(first >= second - 1e-9 for first, second in pairwise(in_order))
