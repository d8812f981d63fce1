"""The study's file under torn lines, several writers and a full disk; owners and leases under real deaths."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from toy_search import SPACE, Toy, calls_of, cost_of, search, states_of

import hrsearch
from hrsearch.errors import InputError
from hrsearch.objective import OBJECTIVES
from hrsearch.search.journal import StudyFile, mend
from hrsearch.search.leases import LEASE_S, Leases, is_lost, new_owner
from hrsearch.search.ledger import open_ledger
from hrsearch.storage import storage_of
from hrsearch.study import read_study

SCORE = (OBJECTIVES["score"],)


def numbers(path: Path) -> list[int]:
    return [log["n"] for log in StudyFile(path).read_logs(0)]


def test_a_torn_line_is_cut_wherever_it_was_torn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    StudyFile(path).append_logs([{"n": 0, "text": "x" * 100_000}, {"n": 1}])
    whole = path.read_bytes()
    for cut in (*range(len(whole) - 9, len(whole)), 100_000, 70_000, 1, 0):
        path.write_bytes(whole[:cut])
        kept = whole[:cut].count(b"\n")
        assert numbers(path) == list(range(kept))  # readers see whole lines only
        StudyFile(path).append_logs([{"n": kept}])
        assert numbers(path) == list(range(kept + 1))


def test_mending_leaves_whole_lines_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for text in (b"", b"a\n", b"a\nb\n"):
        path.write_bytes(text)
        with path.open("r+b") as file:
            assert mend(file) == len(text)
        assert path.read_bytes() == text


def _append(path: Path, start: int) -> None:
    file = StudyFile(path)
    for n in range(start, start + 200):
        file.append_logs([{"n": n}, {"n": n, "text": "x" * 9000}])


def test_writers_do_not_mix(tmp_path: Path) -> None:
    context = get_context("spawn")
    writers = [context.Process(target=_append, args=(tmp_path / "journal", start)) for start in (0, 1000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(numbers(tmp_path / "journal")) == sorted([*range(200), *range(1000, 1200)] * 2)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from hrsearch.errors import InputError
from hrsearch.objective import OBJECTIVES
from hrsearch.search.journal import StudyFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = StudyFile(Path(sys.argv[1]))
file.append_logs([{"n": 0}])
resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
try:
    file.append_logs([{"n": 1, "text": "x" * 100}])
except OSError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
file.append_logs([{"n": 1}])
"""


KILLED = """
import os, signal, sys
from pathlib import Path
from hrsearch.search.journal import StudyFile
file = StudyFile(Path(sys.argv[1]))
with file.at_once(), file.at_once():
    file.append_logs([{"n": 0}])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_appended_at_once_outlives_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.touch()
    home = {"PYTHONPATH": str(Path(hrsearch.__file__).parent.parent)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], env=os.environ | home)
    assert killed.returncode == -signal.SIGKILL
    assert numbers(path) == [0]


def test_what_is_appended_at_once_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    path.touch()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(len(numbers(path))))
    file = StudyFile(path)
    file.append_logs([{"n": 0}])
    with file.at_once():
        file.append_logs([{"n": 1}])
        with file.at_once():
            file.append_logs([{"n": 2}])
        with pytest.raises(ValueError, match="in between"), file.at_once():
            raise ValueError("in between")
        assert numbers(path) == [0, 1, 2]
    file.append_logs([{"n": 3}])
    assert synced == [1, 3, 4]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """The file system takes part of a line, then nothing; later there is room again."""
    path = tmp_path / "journal"
    home = {"PYTHONPATH": str(Path(hrsearch.__file__).parent.parent)}
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], env=os.environ | home, capture_output=True, text=True, check=True
    )
    assert said.stdout == "refused\n"
    assert numbers(path) == [0, 1]


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    holder = get_context("spawn").Process(target=_hold, args=(tmp_path / "journal",))
    holder.start()
    while not (tmp_path / "journal.held").exists():
        time.sleep(0.01)
    assert holder.pid
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    began = time.monotonic()
    StudyFile(tmp_path / "journal").append_logs([{"n": 1}])
    assert time.monotonic() - began < 5  # Optuna's own lock would be waited for, for 30 s


def _hold(path: Path) -> None:
    import fcntl

    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path.with_suffix(".held").touch()
        time.sleep(60)


def test_a_study_with_a_torn_last_line_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 3)
    with (folder / "study.journal").open("ab") as journal:
        journal.write(b'{"op_code":8,"worker_id":"kil')
    assert states_of(folder)["trained"] == 3
    search(folder, 5)
    assert states_of(folder)["trained"] == len(calls_of(folder)) == 5


def _open(folder: Path, results: Any) -> None:
    results.put(len(open_ledger(folder, SCORE, {"task": "segment", "seed": 0}).attributes))


def test_drivers_that_start_at_once_make_one_study(tmp_path: Path) -> None:
    context = get_context("spawn")
    results = context.Queue()
    drivers = [context.Process(target=_open, args=(tmp_path / "toy", results)) for _ in range(4)]
    for driver in drivers:
        driver.start()
    assert [results.get(timeout=30) for _ in drivers] == [2] * 4
    for driver in drivers:
        driver.join()
    assert len(storage_of(tmp_path / "toy").get_all_studies()) == 1


def test_a_study_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 0)
    whole = (folder / "study.journal").read_bytes()
    for kept in (0, 1, whole.find(b"\n") + 1, len(whole) - 1):
        (folder / "study.journal").unlink()
        (folder / "study.new").write_bytes(whole[:kept])
        search(folder, 0)
        assert read_study(folder).attributes["space"] == SPACE
    assert not (folder / "study.new").exists()


def test_a_journal_that_ends_before_its_study_is_made_again(tmp_path: Path) -> None:
    """As a copy of it may that was broken off; it has no trials yet."""
    folder = tmp_path / "toy"
    search(folder, 0)
    whole = (folder / "study.journal").read_bytes().splitlines(keepends=True)
    complete = next(index for index, line in enumerate(whole) if b"metric_names" in line)
    for kept in range(complete):
        (folder / "study.journal").write_bytes(b"".join(whole[:kept]) + whole[kept][:20])
        with suppress(InputError):  # that it has not begun, where it does not say enough yet to be read
            read_study(folder)
        search(folder, 0)
        assert read_study(folder).attributes["space"] == SPACE
    assert search(folder, 2).startswith("2 of 2")


@pytest.mark.parametrize("harm", ["foreign", "no JSON", "no operation", "no header"])
def test_a_damaged_study_and_one_of_another_program_are_one_line(harm: str, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 1)
    lines = (folder / "study.journal").read_bytes().splitlines(keepends=True)
    heads = [index for index, line in enumerate(lines) if b'"op_code":2' in line]
    if harm == "foreign":
        (folder / "study.journal").unlink()
        optuna.create_study(study_name="toy", storage=storage_of(folder)).ask()
    elif harm == "no header":
        (folder / "study.journal").write_bytes(b"".join(line for n, line in enumerate(lines) if n not in heads))
    else:
        lines[heads[3]] = bytes(50) + b"\n" if harm == "no JSON" else b"{}\n"
        (folder / "study.journal").write_bytes(b"".join(lines))
    before = (folder / "study.journal").read_bytes()
    for called in (lambda: read_study(folder), lambda: search(folder, 2)):
        with pytest.raises(InputError, match=r"toy: holds a study of another program, or a damaged one; [^\n]*--name$"):
            called()
    assert (folder / "study.journal").read_bytes() == before


def test_optuna_reads_and_goes_on_with_a_study(tmp_path: Path) -> None:
    """A study is Optuna's: its own code reads and even extends it, and what it adds does not confuse a search."""
    folder = tmp_path / "toy"
    search(folder, 3)
    study = optuna.load_study(study_name="toy", storage=JournalStorage(StudyFile(folder / "study.journal")))
    assert len(study.best_trials) >= 1
    study.ask()
    study.enqueue_trial({"width1": 8})
    assert search(folder, 4).startswith("4 of 4 candidates are done: 4 trained")


ME = {"host": "here", "machine": "m", "pid": os.getpid(), "since": "1", "session": "mine"}
DEAD = ME | {"pid": 2**22 + 1, "session": "other"}  # above the highest process id


@pytest.mark.parametrize(
    ("owner", "lease", "lost"),
    [
        (ME, 200.0, False),
        (ME, 50.0, False),  # in flight in this very session
        (ME | {"session": "earlier"}, 200.0, False),  # another driver in this process, its lease holds
        (ME | {"session": "earlier"}, 50.0, True),
        (ME | {"session": "earlier"}, 0.0, True),  # given back
        (DEAD, 200.0, True),  # no such process: the lease need not run out
        (DEAD | {"machine": "other"}, 200.0, False),  # elsewhere only the lease tells
        (DEAD | {"machine": "other"}, 50.0, True),
        (DEAD | {"machine": "other"}, 0.0, True),
        (None, None, True),
    ],
)
def test_is_lost(owner: dict[str, Any] | None, lease: float | None, lost: bool) -> None:
    assert is_lost({"owner": owner, "lease": lease}, ME, now=100.0) == lost


def test_a_process_that_lives_here_keeps_its_trials_whatever_the_clock_says() -> None:
    other = subprocess.Popen(["sleep", "60"])
    stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
    owner = new_owner() | {"pid": other.pid, "since": stat[19], "session": "other"}
    try:
        assert not is_lost({"owner": owner, "lease": 50.0}, new_owner(), now=1e12)
        assert is_lost({"owner": owner | {"since": "1"}, "lease": 1e12}, new_owner(), now=0.0)  # its number was reused
    finally:
        other.kill()
    while Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert is_lost({"owner": owner, "lease": 1e12}, new_owner(), now=0.0)
    other.wait()
    assert is_lost({"owner": owner, "lease": 1e12}, new_owner(), now=0.0)


def test_leases_are_renewed_until_they_are_dropped() -> None:
    renewed: list[int] = []

    def renew(number: int, lease: float) -> bool:
        assert LEASE_S - 5 < lease - time.time() <= LEASE_S
        renewed.append(number)
        if number == 3:
            raise OSError("disk full")
        return number != 2

    with Leases(renew, every_s=0.02) as leases:
        for number in (1, 2, 3):
            leases.hold(number)
        while renewed.count(1) < 3:
            time.sleep(0.01)
        leases.drop(1)
        assert leases.held == {3}  # 2 was no longer ours; a full disk is tried again
    assert renewed.count(2) == 1
    assert renewed.count(3) > 1


def test_a_lease_is_renewed_only_by_its_owner(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 1)
    ledger = open_ledger(folder, SCORE, {})
    trial = ledger.add(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs={"owner": ME}))
    assert ledger.renew(trial.number, ME, 5.0)
    assert ledger.trial(trial.number).user_attrs["lease"] == 5.0
    assert not ledger.renew(trial.number, DEAD, 9.0)
    assert not ledger.renew(0, ME, 9.0)  # it has ended
    assert ledger.trial(trial.number).user_attrs["lease"] == 5.0


def test_who_finishes_first_is_heard(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 1, Toy(), cost_of=cost_of)
    ledger = open_ledger(folder, SCORE, {})
    number = read_study(folder).trained[0].number
    before = ledger.trial(number)
    assert ledger.finish(number, {"score": None, "outcome": "failed", "reason": "late"}) == before
