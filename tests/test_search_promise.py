"""Which of many draws are worth their training."""

import numpy as np
import pytest

from hrsearch.search.promise import best_together, hits_of


def test_drafts_are_chosen_for_what_those_before_them_leave() -> None:
    hits = np.array([[0.9, 0.9, 0.0, 0.0], [0.8, 0.8, 0.2, 0.0], [0.0, 0.0, 0.5, 0.6], [0.0, 0.0, 0.0, 0.0]])
    assert best_together(hits, 1) == [0]  # as much as the second, and first of equals
    assert best_together(hits, 3) == [0, 2, 1]
    assert best_together(hits, 9) == [0, 2, 1, 3]
    assert best_together(np.empty((2, 0)), 1) == [0]  # where nothing is left to take, any


def test_hits_are_chances_to_take_of_the_box_what_is_free() -> None:
    values = np.array([[0.0, 10.0], [1.0, 1.0]])  # of two objectives, the second minimised
    directions = ["maximize", "minimize"]
    best, sure = [[1.0, 1.0]], [[0.5, 5.0]]
    guesses = np.array([[best[0], sure[0]], [[0.0, 10.0], sure[0]]])  # of the first draft two guesses apart
    hits = hits_of(guesses, values[:1], directions, seed=0)
    assert set(np.unique(hits[0])) <= {0.0, 0.5}
    hits = hits_of(guesses, values, directions, seed=0)
    assert hits.sum() == pytest.approx(0.0)  # one network is best in both: there is nothing to add


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("known", [1, 3])
def test_what_is_better_than_the_best_counts_where_one_leads_in_everything(direction: str, known: int) -> None:
    values = np.array([[0.5], [0.3], [0.4]])[:known]
    guesses = np.array([[[0.4], [0.6], [0.55]], [[0.45], [0.7], [0.65]]])
    if direction == "minimize":
        values, guesses = 1 - values, 1 - guesses
    hits = hits_of(guesses, values, [direction], seed=0)
    assert hits.sum(axis=1)[0] == 0
    assert best_together(hits, 2) == [1, 2]
    again = hits_of(guesses[:, :1], values, [direction], seed=0)
    assert again.sum() == 0  # none is better
