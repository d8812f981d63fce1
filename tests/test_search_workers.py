"""What a search with several workers finds, beside the same search with one."""

import time
from pathlib import Path
from typing import Any

import pytest
from toy_search import judgement, rows_of, search

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed
from hrsearch.study import read_study


def uneven(candidate: Candidate) -> Judgement:
    """Candidates that end in another order than they began, and of which some fail."""
    time.sleep(candidate.seed % 5 / 50)
    if candidate.seed % 7 == 0:
        raise CandidateFailed("as its seed will have it")
    return judgement(candidate)


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_workers_change_what_generations_take_not_what_they_find(sampler: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"sampler": sampler, "preload": ["test_search_workers"], "limits": ("flops<=0.25G",)}
    search(tmp_path / "inline", 24, uneven, **options)
    whole = rows_of(read_study(tmp_path / "inline"))
    assert {state for state, *_ in whole} == {"trained", "failed", "refused"}
    search(tmp_path / "three", 24, uneven, engine={"kind": "processes", "workers": 3}, **options)
    assert rows_of(read_study(tmp_path / "three")) == whole
