"""A disk that fills up, a real one of little room, and what checkpoints take of it."""

import errno
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import torch
from inside import inside
from test_cli import RUNNER, SPACE
from toy_search import Heavy, judgement, search

from hrsearch.candidate import Candidate, Judgement, checkpoint_path
from hrsearch.errors import is_disk_full
from hrsearch.proxy.checkpoint import read_state, write_rows, write_state, write_weights
from hrsearch.retrain import finalize
from hrsearch.search import rungs
from hrsearch.search.driver import Event
from hrsearch.search.ledger import noting
from hrsearch.search.room import RESERVE
from hrsearch.study import read_study

MB = 1 << 20


@dataclass(frozen=True)
class Disk:
    """A file system in memory, of a size that can be changed."""

    path: Path

    def resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)

    @property
    def room(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_bsize


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MB}", "none", path], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield Disk(path)
    subprocess.run(["umount", "-l", path], check=True)


def test_what_finds_no_room_says_where_and_leaves_nothing(disk: Disk) -> None:
    large = {"weight": torch.zeros(MB)}
    network = torch.nn.Linear(1000, 1000)
    writes: list[Callable[[], None]] = [
        lambda: write_state(disk.path / "rungs" / "1.pt", large),
        lambda: write_weights(disk.path / "1.safetensors", network),
        lambda: write_rows(disk.path / "metrics.csv", [{"loss": float(n)} for n in range(MB // 4)]),
    ]
    for write in writes:
        with pytest.raises(OSError, match=r"disk/(rungs/1.pt|1.safetensors|metrics.csv)") as found:
            write()
        assert is_disk_full(found.value)
        assert not [path for path in disk.path.rglob("*") if path.is_file()]
    write_state(disk.path / "1.pt", {"step": 3})
    assert read_state(disk.path / "1.pt", torch.device("cpu")) == {"step": 3}


@pytest.mark.parametrize(
    ("weight", "kind"),
    [pytest.param(150_000, "processes", marks=pytest.mark.long), (0, "inline")],
    ids=["weights", "journal"],
)
def test_a_full_disk_stops_a_search_that_goes_on_when_there_is_room(
    weight: int, kind: str, disk: Disk, tmp_path: Path
) -> None:
    heavy, folder = Heavy(tmp_path, weight), disk.path / "toy"
    options: dict[str, Any] = {"engine": {"kind": kind, "workers": 2}, "preload": ["toy_search"], "rungs": (10, 30)}
    search(folder, 0, heavy, **options)
    if not weight:  # what is left is for the study's file alone, and little
        (disk.path / "another's").write_bytes(bytes(disk.room - 12_000))
    with pytest.raises(OSError, match=r"No space left|no room left") as found:
        search(folder, 9, heavy, **options)
    assert found.value.errno == errno.ENOSPC
    assert str(disk.path) in str(found.value.filename)
    scores = {trial.number: trial.attributes.get("rungs", ()) for trial in read_study(folder).trials}
    ended = heavy.noted("ended")
    assert len(ended) >= 2
    assert {f"{number} {rung}" for number, rungs in scores.items() for rung, _ in enumerate(rungs)} == set(ended)
    (disk.path / "more").write_bytes(bytes(disk.room))
    with pytest.raises(OSError, match=r"No space left|no room left"):
        search(folder, 9, heavy, **options)
    disk.resize(16 * MB)
    assert search(folder, 9, heavy, **options).startswith("9 of 9 candidates are done: 1 trained, 8 let go")
    assert set(heavy.noted("ended").values()) == {1}
    assert (folder / ".reserve").stat().st_size == RESERVE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit leaves its process unwaited
def test_a_job_that_finds_no_room_is_no_failed_candidate(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # a job finds what is installed; the tests are not
    folder = disk.path / "toy"

    def fill(event: Event) -> None:
        if event.trial.state == "running":
            (disk.path / "another's").write_bytes(bytes(disk.room))

    engine = {"kind": "slurm", "cluster": "local", "workers": 1}
    with pytest.raises(OSError, match="No space left"):
        search(folder, 1, judgement, engine=engine, on_event=fill)
    left = [trial for trial in read_study(folder).trials if trial.state != "refused"]
    assert [(trial.state, trial.attributes["lease"]) for trial in left] == [("running", 0)]
    disk.resize(16 * MB)
    assert search(folder, 1, judgement, engine=engine).startswith("1 of 1 candidates are done: 1 trained")


def test_the_command_says_one_line_and_goes_on_later(disk: Disk) -> None:
    disk.resize(8 * MB)
    (disk.path / "tiny.yaml").write_text(SPACE)
    rungs = "proxy: {rungs: [2], steps: 6, warmup: 1,"
    text = (
        RUNNER.replace("kind: processes", "kind: inline")
        .replace("proxy: {", rungs)
        .replace(" steps: 4, warmup: 1,", "")
    )
    (disk.path / "inline.yaml").write_text(text)
    asked = ("run", "tiny.yaml", "--runner", "inline.yaml", "--budget", "3")
    (disk.path / "another's").write_bytes(bytes(disk.room - RESERVE - 60_000))
    done = inside(disk.path, *asked)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("hrsearch: ")
    assert last.endswith("no room left; nothing finished is lost: make room, and the same command goes on")
    assert "Traceback" not in done.stderr
    disk.resize(64 * MB)
    done = inside(disk.path, *asked)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 candidates are done: 1 trained, 2 let go at an earlier rung, 0 failed" in done.stdout
    assert not list((disk.path / "studies/tiny/rungs").iterdir())


def test_a_full_disk_stops_finalize_that_goes_on_when_there_is_room(disk: Disk) -> None:
    """What a worker could not keep is no result; what ended before it stays."""
    disk.resize(8 * MB)
    (disk.path / "tiny.yaml").write_text(SPACE)
    (disk.path / "inline.yaml").write_text(RUNNER.replace("kind: processes", "kind: inline"))
    ran = inside(disk.path, "run", "tiny.yaml", "--runner", "inline.yaml", "--budget", "3")
    assert ran.returncode == 0, ran.stderr
    folder, seen = disk.path / "studies/tiny", list[str]()
    another, note = disk.path / "another's", noting(folder)
    another.write_bytes(bytes(disk.room))
    with pytest.raises(OSError, match="No space left"):
        list(map(note, repeat({"more": "said"})))  # to the end of the last block
    with pytest.raises(OSError, match="No space left"):
        finalize(folder, 2, 1, lambda one: seen.append(one.key), most=1)
    assert not seen
    assert len(confirmations(folder)) == 1  # it ended: in the room that was held back for it
    another.write_bytes(bytes(disk.room + another.stat().st_size - 16_000))  # for lines in that file, not for weights
    asked = ("finalize", "tiny", "--seeds", "2", "--times", "1", "--most", "1")
    full = inside(disk.path, *asked)
    assert full.returncode == 1, full.stderr
    assert re.search(r"\.safetensors: no room left; nothing finished is lost", full.stderr.splitlines()[-1])
    known = confirmations(folder)
    assert all("value" in found for found in known.values())
    disk.resize(64 * MB)
    done = inside(disk.path, *asked)
    assert done.returncode == 0, done.stderr
    later = confirmations(folder)
    assert {key: later[key] for key in known} == known
    assert len([key for key in later if re.fullmatch(r"confirmation:1:\d+:[01]", key)]) == 2


def confirmations(folder: Path) -> dict[str, Any]:
    """What is known of trainings by finalize."""
    found = read_study(folder).attributes
    return {key: value for key, value in found.items() if key.startswith("confirmation:")}


def with_checkpoint(candidate: Candidate) -> Judgement:
    """The toy's candidate, of which a checkpoint stays."""
    path = checkpoint_path(candidate.folder, candidate.number)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    path.with_name(f".{path.name}.partial").touch()  # as a worker that was killed leaves it
    return judgement(candidate)


@pytest.mark.parametrize("eta", [1.5, 2.0])
def test_who_goes_on_finds_its_checkpoint(eta: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rungs, "ENOUGH_TO_FORECAST", 3)
    found = Counter[bool]()

    def evaluate(candidate: Candidate) -> Judgement:
        if candidate.rung:
            found[checkpoint_path(candidate.folder, candidate.number).exists()] += 1
        return with_checkpoint(candidate)

    search(tmp_path, 40, evaluate, rungs=(10,), rungs_by="gain", eta=eta, sampler="random")
    assert found == {True: int(40 / eta)}


def test_checkpoints_are_kept_of_the_better_half_alone(tmp_path: Path) -> None:
    kept: Counter[int] = Counter()

    def look(event: Event) -> None:
        if event.trial.state != "waiting":
            return
        found = {int(path.name.strip(".").split(".")[0]) for path in (tmp_path / "rungs").iterdir()}
        trials = {trial.number: trial for trial in read_study(tmp_path).trials}
        assert {trials[number].state for number in found} <= {"waiting"}
        for rung in (1, 2):
            judged = [trial for trial in trials.values() if len(trial.attributes.get("rungs", ())) >= rung]
            left = sum(len(trials[number].attributes["rungs"]) == rung for number in found)
            assert left <= (len(judged) + 1) // 2
            kept[rung] = max(kept[rung], left)

    search(tmp_path, 27, with_checkpoint, rungs=(10, 30), sampler="random", on_event=look)
    assert kept[1] >= 3
    assert not list((tmp_path / "rungs").iterdir())
