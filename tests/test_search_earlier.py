"""What other studies have judged is taken over; the control arm; draws that are weighed."""

import shutil
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from toy_search import SPACE, calls_of, judgement, rows_of, search

from hrsearch.candidate import Candidate, Judgement, seed_of, weights_path
from hrsearch.errors import InputError, NothingFits
from hrsearch.search import claims, proposals
from hrsearch.study import read_study

SAME = {"protocol": "p", "split": "s", "reference_ms": 10.0, "machine": {"processor": "toy"}}
LIMITS = ("flops<=0.25G", "latency<=20ms")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A study of eight candidates."""
    search(tmp_path / "earlier", 8, attributes=SAME)
    return tmp_path / "earlier"


def test_what_another_study_trained_is_taken_over_and_counts(earlier: Path, tmp_path: Path) -> None:
    kept = read_study(earlier).trained[3].number
    weights_path(earlier, kept).parent.mkdir()
    weights_path(earlier, kept).write_bytes(b"weights")
    assert search(tmp_path / "new", 10, attributes=SAME, seed=1, earlier=[earlier]).startswith("10 of 10")
    first, new = read_study(earlier), read_study(tmp_path / "new")
    assert [trial.attributes.get("copied_from") for trial in new.trained[:8]] == [
        f"earlier:{trial.number}" for trial in first.trained
    ]
    for trial, copied in zip(first.trained, new.trained, strict=False):
        assert copied.values == trial.values
        assert copied.knobs == trial.knobs
    assert weights_path(tmp_path / "new", new.trained[3].number).read_bytes() == b"weights"
    assert len(calls_of(tmp_path / "new")) == 2
    digests = [trial.attributes["digest"] for trial in new.trained]
    assert len(set(digests)) == 10


def test_weights_are_whole_wherever_their_copying_was_cut(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver that copies dies, as far as its study can tell; another one goes on."""
    for trial in read_study(earlier).trained:
        weights_path(earlier, trial.number).parent.mkdir(exist_ok=True)
        weights_path(earlier, trial.number).write_bytes(b"weights")

    def cut(source: Path, target: Path) -> None:
        target.write_bytes(b"wei")
        raise KeyboardInterrupt

    told: dict[str, Any] = {"attributes": SAME, "earlier": [earlier]}
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", cut)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "new", 8, **told)
    assert not weights_path(tmp_path / "new", 0).exists()
    monkeypatch.setattr(claims, "is_lost", lambda *of: True)
    assert search(tmp_path / "new", 8, **told).startswith("8 of 8")
    copied = {trial.number for trial in read_study(tmp_path / "new").trained}
    assert {path.name for path in weights_path(tmp_path / "new", 0).parent.iterdir()} == {
        weights_path(tmp_path / "new", number).name for number in copied
    }
    assert {path.read_bytes() for path in weights_path(tmp_path / "new", 0).parent.iterdir()} == {b"weights"}


def test_of_a_chain_of_studies_the_first_is_named_and_the_same_call_adds_nothing(earlier: Path, tmp_path: Path) -> None:
    search(tmp_path / "second", 9, attributes=SAME, seed=1, earlier=[earlier])
    for _ in range(2):
        search(tmp_path / "third", 9, attributes=SAME, seed=2, earlier=[tmp_path / "second", earlier])
    sources = [trial.attributes.get("copied_from", "") for trial in read_study(tmp_path / "third").trained]
    assert sorted(source.split(":")[0] for source in sources) == ["earlier"] * 8 + ["second"]
    assert not calls_of(tmp_path / "third")


def test_limits_hold_for_what_is_taken_over(earlier: Path, tmp_path: Path) -> None:
    search(tmp_path / "new", 8, attributes=SAME, limits=LIMITS, earlier=[earlier])
    record = read_study(tmp_path / "new")
    assert all(trial.is_within_limits for trial in record.trained)
    refused = [trial for trial in record.trials if trial.state == "refused" and trial.attributes.get("digest")]
    assert {trial.attributes.get("copied_from") for trial in refused if "score" not in trial.attributes} == {None}


def with_memory(candidate: Candidate) -> Judgement:
    """The toy's candidate of which memory is asked, too."""
    return judgement(candidate, memory={"bytes": 1_000_000})


def with_memory_of_some(candidate: Candidate) -> Judgement:
    """Of every other one memory is known."""
    return with_memory(candidate) if candidate.number % 2 else judgement(candidate)


@pytest.mark.parametrize("asked", [{"objectives": ("score", "flops", "memory")}, {"limits": ("memory<=2M",)}])
def test_what_lacks_an_asked_objective_is_judged_here(asked: dict[str, Any], earlier: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"attributes": SAME, **asked}
    with pytest.raises(InputError, match=r"--warm-start .*earlier: its candidates know no memory, which is asked for;"):
        search(tmp_path / "new", 8, with_memory, earlier=[earlier], **options)
    search(tmp_path / "some", 8, with_memory_of_some, attributes=SAME)
    known = {trial.attributes["digest"] for trial in read_study(tmp_path / "some").trained if trial.number % 2}
    assert search(tmp_path / "new", 8, with_memory, earlier=[tmp_path / "some"], **options).startswith("8 of 8")
    trained = read_study(tmp_path / "new").trained
    assert [trial.attributes["memory"]["bytes"] for trial in trained] == [1_000_000] * 8
    copied = {trial.attributes["digest"] for trial in trained if "copied_from" in trial.attributes}
    assert (copied, len(known)) == (known, 4)


@pytest.mark.parametrize("rungs", [(), (10, 30)])
def test_what_a_limit_refused_once_it_was_trained_is_taken_over(rungs: tuple[int, ...], tmp_path: Path) -> None:
    with nullcontext() if rungs else pytest.raises(NothingFits):
        search(tmp_path / "strict", 27, attributes=SAME, rungs=rungs, limits=("latency<=30ms", "score>=0.9"))
    strict = [trial for trial in read_study(tmp_path / "strict").trials if "score" in trial.attributes]
    in_full = [trial for trial in strict if trial.attributes["score"]["rung"] == len(rungs)]
    assert {trial.state for trial in in_full} == {"refused"}
    assert len(in_full) < len(strict) == 27 or not rungs
    search(tmp_path / "new", 27, attributes=SAME, rungs=rungs, earlier=[tmp_path / "strict"])
    copied = [trial for trial in read_study(tmp_path / "new").trained if "copied_from" in trial.attributes]
    assert [trial.attributes["copied_from"] for trial in copied] == [f"strict:{trial.number}" for trial in in_full]
    assert all("violations" not in trial.attributes for trial in copied)


def test_a_network_of_another_space_is_known_again_by_its_digest(tmp_path: Path) -> None:
    """Its knobs have other names here, so it waits until it is drawn."""
    tiny = SPACE.replace("lift: [false, true]", "lift: [false]").replace("width1: [8, 16, 24, 32]", "width1: [8]")
    tiny = tiny.replace("depth2: [1, 2, 3, 4]", "depth2: [1]").replace("extra: {from: 1, to: 4}", "extra: [1]")
    search(tmp_path / "all", 12, attributes=SAME, space=tiny, sampler="random")
    renamed = tiny.replace("width2", "second")
    search(tmp_path / "new", 12, attributes=SAME, space=renamed, sampler="random", seed=5, earlier=[tmp_path / "all"])
    assert not calls_of(tmp_path / "new")
    assert {trial.attributes["copied_from"].split(":")[0] for trial in read_study(tmp_path / "new").trained} == {"all"}


def test_latencies_are_scaled_to_the_reference_of_the_study(earlier: Path, tmp_path: Path) -> None:
    search(tmp_path / "new", 8, attributes=SAME | {"reference_ms": 20.0}, earlier=[earlier])
    for old, new in zip(read_study(earlier).trained, read_study(tmp_path / "new").trained, strict=True):
        assert new.values[2] == pytest.approx(2 * float(old.values[2] or 0.0))
        assert new.values[:2] == old.values[:2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"protocol": "other"}, "judges candidates in another way"),
        ({"split": "other"}, "this study's split is s, but other was asked for"),
        ({"machine": {"processor": "other"}}, "latencies are of another machine"),
    ],
)
def test_a_study_that_was_judged_otherwise_is_refused(
    changed: dict[str, Any], message: str, earlier: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"--warm-start .*{message}") as error:
        search(tmp_path / "new", 8, attributes=SAME | changed, earlier=[earlier])
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()
    if "machine" in changed:
        told: dict[str, Any] = {"attributes": SAME | changed, "objectives": ("score", "flops"), "earlier": [earlier]}
        assert search(tmp_path / "new", 8, **told).startswith("8 of 8")


def test_a_missing_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        search(tmp_path / "new", 8, earlier=[tmp_path / "none"])


@pytest.mark.parametrize("budget", [0, 3])
def test_a_study_that_has_nothing_to_give_is_told(budget: int, tmp_path: Path) -> None:
    """It has only begun, or what it trained waits at a rung."""
    told: dict[str, Any] = {"attributes": SAME, "rungs": (10,)}
    with suppress(KeyboardInterrupt):
        search(tmp_path / "begun", budget, stopped_at_the_third, **told)
    assert {trial.state for trial in read_study(tmp_path / "begun").trials} <= {"waiting", "running", "refused"}
    with pytest.raises(InputError, match=r"--warm-start .*begun: no candidate of it was trained in full; leave"):
        search(tmp_path / "new", 8, earlier=[tmp_path / "begun"], **told)


def stopped_at_the_third(candidate: Candidate) -> Judgement:
    """Ctrl-C strikes before one goes on from its rung."""
    if candidate.rung or candidate.number >= 2:
        raise KeyboardInterrupt
    return judgement(candidate)


@pytest.mark.parametrize("control", [0.0, 0.3, 1.0])
def test_the_control_arm_is_decided_by_seed_and_number(control: float, tmp_path: Path) -> None:
    search(tmp_path / "toy", 30, sampler="evolve", control=control)
    trials = read_study(tmp_path / "toy").trials
    arms, decides = [trial.attributes.get("arm") == "random" for trial in trials], 0
    for trial, is_control in zip(trials, arms, strict=True):
        assert is_control == (seed_of(0, decides, "arm") < control * 2**32)
        decides = decides if trial.state == "refused" else trial.number + 1
    assert sum(arms) / len(arms) == pytest.approx(control, abs=0.2)


def test_the_control_arm_keeps_limits_on_costs_and_random_search_has_none(tmp_path: Path) -> None:
    search(tmp_path / "toy", 30, control=0.5, limits=("flops<=0.25G",))
    control = [trial for trial in read_study(tmp_path / "toy").trials if trial.attributes.get("arm")]
    assert len(control) > 5
    assert {trial.state for trial in control} == {"trained"}
    search(tmp_path / "random", 10, sampler="random", control=0.5)
    assert not any(trial.attributes.get("arm") for trial in read_study(tmp_path / "random").trials)


def test_a_control_arm_that_cannot_keep_the_limits_leaves_it_to_the_sampler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposals, "CONTROL_TRIES", 1)
    search(tmp_path / "toy", 12, control=1.0, limits=("flops<=0.12G",))
    arms = [(trial.attributes.get("arm"), trial.state) for trial in read_study(tmp_path / "toy").trials]
    assert ("random", "refused") in arms
    assert all(arms[index + 1][0] is None for index, arm in enumerate(arms[:-1]) if arm == ("random", "refused"))


def test_weighed_draws_keep_limits_and_find_more(tmp_path: Path) -> None:
    """The toy's score grows with its costs: what is expected of a draw is worth knowing."""
    sizes = {}
    for draws in (1, 6):
        told: dict[str, Any] = {
            "sampler": "random",
            "objectives": ("score",),
            "limits": ("flops<=0.4G",),
            "draws": draws,
        }
        search(tmp_path / str(draws), 20, **told)
        record = read_study(tmp_path / str(draws))
        sizes[draws] = sum(trial.attributes["flops"] for trial in record.trained[10:])
        if draws > 1:
            assert not [trial for trial in record.trials if "flops" in str(trial.attributes.get("reason"))]
    assert sizes[6] > 1.1 * sizes[1]
    search(tmp_path / "again", 20, **told)
    assert rows_of(read_study(tmp_path / "again")) == rows_of(read_study(tmp_path / "6"))
