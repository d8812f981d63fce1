"""Which of many draws are worth their training."""

import numpy as np
import pytest

from hrsearch.search.promise import Draft, best_together, hits_of, most_promising, most_promising_untrained


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


def test_before_anything_is_trained_a_zero_cost_proxy_and_the_exact_costs_say_what_is_worth_it() -> None:
    drafts = [draft(5, 10), draft(9, 40), draft(4, 20), draft(9.5, 90)]
    assert most_promising_untrained(drafts, [], ("score", "flops", "latency"), seed=0, count=4)[0] == 1
    before = [draft(9, 38), draft(5, 9)]  # what is begun is as good as the first three and smaller
    assert most_promising_untrained(drafts, before, ("score", "latency"), seed=0) == [3]
    assert most_promising_untrained(drafts, before, ("score",), seed=0) == [3]
    assert most_promising_untrained([*drafts[::-1], draft(None, 1)], before, ("score",), seed=0) == [0]
    leads = [draft(99, 99)]  # nobody adds anything to it: who is said to be the best, not who comes first
    assert most_promising_untrained(drafts, leads, ("score",), seed=0, count=2) == [3, 1]
    by_params = [draft(5, 10, params=9), draft(5, 10, params=7)]
    assert most_promising_untrained(by_params, [], ("score", "params"), seed=0) == [1]


def draft(untrained: float | None, flops: int, params: int = 1) -> Draft:
    return Draft({}, {}, {"params": params, "flops": flops}, untrained=untrained)


def test_a_lucky_score_does_not_hide_what_is_as_good_as_the_network_behind_it() -> None:
    """Scores go with the width, but for one network's, which beats all that are wider."""
    widths = [*range(8, 30, 2), 38]
    scores = [width / 100 + (0.15 if width == 24 else 0.0) for width in widths]
    judged = [wide(width, (score, width)) for width, score in zip(widths, scores, strict=True)]
    drafts = [wide(15), wide(33)]  # the one adds next to nothing; the other all between 28 and 38
    assert most_promising(drafts, judged, [], {}, ("score", "flops"), seed=0) == [1]


def wide(width: int, values: tuple[float, ...] = ()) -> Draft:
    branch = {"channels": width, "stride": 4, "depth": 1}
    return Draft({}, {"stages": [{"branches": [branch]}], "head": {}}, {"params": width, "flops": width}, values)


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
