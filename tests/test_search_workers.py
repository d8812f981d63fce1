"""What a search with several workers finds, beside the same search with one."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from toy_search import SPACE, Toy, judgement, rows_of, rungs_called, search

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed, NothingFits
from hrsearch.registry import WORKERS
from hrsearch.search import claims, driver
from hrsearch.search.clock import Clock
from hrsearch.search.engines.setup import Setup
from hrsearch.search.proposals import Proposal, propose
from hrsearch.study import read_study


def uneven(candidate: Candidate) -> Judgement:
    """Candidates that end in another order than they began, and of which some fail."""
    time.sleep(candidate.seed % 5 / 50)
    if candidate.seed % 7 == 0:
        raise CandidateFailed("as its seed will have it")
    return judgement(candidate)


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_workers_change_what_generations_take_not_what_they_find(sampler: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"sampler": sampler, "preload": ["test_search_workers"], "limits": ("flops<=0.25G",)}
    search(tmp_path / "inline", 24, uneven, **options)
    whole = rows_of(read_study(tmp_path / "inline"))
    assert {state for state, *_ in whole} == {"trained", "failed", "refused"}
    search(tmp_path / "three", 24, uneven, engine={"kind": "processes", "workers": 3}, **options)
    assert rows_of(read_study(tmp_path / "three")) == whole


class Many(ThreadPoolExecutor):
    """Workers in threads."""

    def __init__(self, setup: Setup, workers: int, timeout_s: float) -> None:
        super().__init__(workers)
        self.workers = workers


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An engine of a hundred threads, which nothing knows after the test."""
    monkeypatch.setattr(WORKERS, "_entries", {kind: WORKERS[kind] for kind in WORKERS} | {"many": Many})
    return {"kind": "many", "workers": 100}


def test_one_blow_to_all_workers_does_not_end_a_search(tmp_path: Path, many: dict[str, Any]) -> None:
    turns = count()

    def struck(candidate: Candidate) -> Judgement:
        if next(turns) < many["workers"]:
            raise CandidateFailed("the node went down")
        return judgement(candidate)

    said = search(tmp_path / "many", 130, struck, sampler="random", engine=many)
    assert said.startswith("130 of 130 candidates are done: 30 trained, 100 failed")


LAWFUL = SPACE.replace("width1: [8, 16, 24, 32]", "width1: [8]")  # no draw breaks its requirement
REFUSED = Judgement({"outcome": "refused", "reason": "memory<=1M does not hold"})


def test_endless_refusal_ends_a_search_in_which_some_always_run(
    tmp_path: Path, many: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "MOST_REFUSED", 15)
    begun = [Event() for _ in range(1000)]

    def refused(candidate: Candidate) -> Judgement:
        begun[candidate.number].set()
        if candidate.number % 5 == 0:  # until another like it runs, which at the end none does
            begun[candidate.number + 5].wait(0.5)
        return REFUSED

    with pytest.raises(NothingFits, match=r"^\d+ proposals in a row were refused, the last one: memory<=1M does not"):
        search(tmp_path / "many", 8, refused, LAWFUL, sampler="random", engine=many | {"workers": 4})
    trials = read_study(tmp_path / "many").trials
    assert {trial.state for trial in trials} == {"refused"}
    assert 15 <= len(trials) < 15 + 4


def test_a_candidate_that_is_trained_in_the_end_ends_a_row_of_refusals(
    tmp_path: Path, many: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many were refused while it was."""
    monkeypatch.setattr(claims, "MOST_REFUSED", 15)
    begun = [Event() for _ in range(1000)]

    def judged(candidate: Candidate) -> Judgement:
        begun[candidate.number].set()
        if candidate.number != 8:
            return REFUSED
        begun[15].wait(10.0)
        time.sleep(0.2)
        return judgement(candidate)

    said = search(tmp_path / "many", 8, judged, LAWFUL, sampler="random", engine=many | {"workers": 2})
    assert "proposals in a row were refused, the last one: memory<=1M does not hold; loosen that" in said
    states = [trial.state for trial in read_study(tmp_path / "many").trials]
    assert (states.count("trained"), states[8]) == (1, "trained")
    assert len(states[9:]) >= 15


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> Event:
    """The hours are spent once every worker that finds a candidate has one; set from then on."""
    looks, is_up = count(), Event()

    def looked(clock: Clock) -> bool:
        if next(looks):
            is_up.set()
        return is_up.is_set()

    monkeypatch.setattr(Clock, "is_up", property(looked))
    monkeypatch.setattr(driver, "POLL_S", 0.01)
    return is_up


def test_what_still_ran_when_the_hours_were_spent_is_counted(tmp_path: Path, many: dict[str, Any], up: Event) -> None:
    def judged(candidate: Candidate) -> Judgement:
        up.wait(10.0)
        return judgement(candidate)

    said = search(tmp_path / "many", None, judged, LAWFUL, sampler="random", engine=many | {"workers": 3}, hours=1)
    assert said == "the hours are spent; 3 candidates are done: 3 trained, 0 failed, 0 refused"


def test_the_hours_end_a_search_whose_space_is_exhausted(tmp_path: Path, many: dict[str, Any], up: Event) -> None:
    """What waits at a rung goes on waiting, as in a space that holds more."""
    tiny = LAWFUL.replace("lift: [false, true]", "lift: [false]").replace("width2: [8, 16, 32, 64]", "width2: [8]")

    def judged(candidate: Candidate) -> Judgement:
        up.wait(10.0)
        return judgement(candidate)

    said = search(tmp_path / "many", None, judged, tiny, sampler="random", engine=many, hours=1, rungs=(10,))
    assert said.startswith("the space seems to hold no network besides the 12 already drawn")
    assert {trial.state for trial in read_study(tmp_path / "many").trials} == {"waiting"}


def test_many_workers_are_fed_at_once_within_the_budget(
    tmp_path: Path, many: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def counted(*given: Any) -> list[Proposal]:
        found = propose(*given)
        asked.append((given[-1], len(found)))
        return found

    monkeypatch.setattr(claims, "propose", counted)
    options: dict[str, Any] = {"sampler": "evolve", "draws": 4, "rungs": (20,), "rungs_by": "gain", "eta": 2.0}
    search(tmp_path / "many", 230, Toy(0.2), engine=many, control=0.1, limits=("flops<=0.4G",), **options)
    trials = read_study(tmp_path / "many").trials
    spent = [trial for trial in trials if trial.state in ("trained", "stopped")]
    assert len(spent) == 230
    assert len({trial.attributes["digest"] for trial in trials}) == len(trials)
    assert sum(trial.state == "trained" for trial in spent) == 115
    called = Counter((number, rung) for number, rung, _ in rungs_called(tmp_path / "many"))
    assert set(called.values()) == {1}  # no rung of a trial twice
    assert asked[0] == (claims.MOST_AT_ONCE, claims.MOST_AT_ONCE)
    assert sum(found for _, found in asked) == len(trials)  # nothing was found in vain
    assert 5 < sum("arm" in trial.attributes for trial in trials) < 45
