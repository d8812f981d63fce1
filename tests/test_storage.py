"""Studies in databases: a real PostgreSQL with drivers that share it and die, and SQLite."""

import dataclasses
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna
import pytest
from example_study import example_record, store
from inside import inside
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import Pool
from toy_search import calls_of, rows_of, search, start, states_of

from hrsearch.errors import InputError, is_disk_full
from hrsearch.objective import OBJECTIVES
from hrsearch.progress import _command
from hrsearch.search.ledger import noting, open_ledger
from hrsearch.storage import SECRET, exclusive, point_to, public_url, storage_of, without_password
from hrsearch.study import read_study

SCORE = (OBJECTIVES["score"],)
GO_AWAY = "drop database if exists fleeting with (force)"
PROGRAMS = shutil.which("initdb"), shutil.which("postgres")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL, password included, of the empty database of a PostgreSQL that lives as long as the tests."""
    initdb, postgres = PROGRAMS
    if not initdb or not postgres:
        pytest.skip("no PostgreSQL here: no initdb and postgres on the PATH")
    home = Path(tempfile.mkdtemp(prefix="hrsearch-postgresql-", dir="/tmp"))  # its user cannot enter pytest's folders
    who: dict[str, Any] = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    if who:
        shutil.chown(home, "postgres")
    (home / "password").write_text("s3cret/@\n")
    (home / "password").chmod(0o644)
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "cwd": home} | who
    make = [initdb, "-D", str(home / "data"), "-U", "hr", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
    subprocess.run([*make, f"--pwfile={home / 'password'}"], check=True, **quiet)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-p", str(port), "-c", f"unix_socket_directories={home}", "-c", "listen_addresses=127.0.0.1", "-F"]
    process = subprocess.Popen([postgres, "-D", str(home / "data"), *options], **quiet)
    try:
        wait_until(lambda: _listens(port), process)
        yield f"postgresql://hr:s3cret%2F%40@127.0.0.1:{port}/postgres"
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(home)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[Any]") -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 60 s"
        assert process.poll() is None, "it ended"
        time.sleep(0.02)


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/studies.db"
    return str(request.getfixturevalue("server"))


def folder_in(tmp_path: Path, machine: str = "") -> Path:
    """The folder of a study on a machine. All tests share one server, so each has a study of its own there."""
    return tmp_path / machine / tmp_path.name


def test_two_drivers_share_a_study_and_one_is_killed(url: str, tmp_path: Path) -> None:
    """As on two machines: a folder each, begun at once on an empty database. The budget is kept, nothing runs twice."""
    folders = [folder_in(tmp_path, machine) for machine in ("a", "b")]
    drivers = [start(folder, 12, "--seconds", "0.3", "--storage", url) for folder in folders]

    def calls() -> list[Any]:
        return [call for folder in folders for call in calls_of(folder)]

    wait_until(lambda: bool(calls_of(folders[1])) and len(calls()) >= 5, drivers[1])
    drivers[1].kill()
    drivers[1].communicate()
    said, _ = drivers[0].communicate(timeout=120)
    assert drivers[0].returncode == 0, said
    assert "12 of 12 candidates are done: 12 trained" in said
    assert said.count("was left by a driver that is gone") <= 2  # none where the kill fell between two candidates
    point_to(folders[0], url)  # this process does not know the password yet
    record = read_study(folders[0])
    assert {trial.state for trial in record.trials} == {"trained", "refused"}  # a requirement refuses some draws
    assert len({trial.attributes["digest"] for trial in record.trained}) == len(record.trained) == 12
    repeated = [number for number, times in Counter(call[0] for call in calls()).items() if times > 1]
    assert len(repeated) <= said.count("was left by a driver that is gone")
    assert rows_of(read_study(folders[1])) == rows_of(record)  # the dead driver's machine sees the same study


def test_a_study_in_a_database_is_the_study_in_a_file(url: str, tmp_path: Path) -> None:
    """The same proposals and outcomes, interrupted or not; notes and the pointer go along."""
    limits = ("flops<=0.25G", "latency<=20ms")
    search(tmp_path / "file", 8, limits=limits)
    folder = folder_in(tmp_path)
    point_to(folder, url)
    search(folder, 3, limits=limits)
    search(folder, 8, limits=limits)
    assert rows_of(read_study(folder)) == rows_of(read_study(tmp_path / "file"))
    noting(folder)({"latency.board": {"engine": "onnx"}})
    moved = folder.rename(folder.with_name("moved"))
    assert read_study(moved).attributes["latency.board"] == {"engine": "onnx"}
    assert states_of(moved)["trained"] + states_of(moved)["refused"] == len(read_study(tmp_path / "file").trials)


def test_an_exclusive_lock_goes_with_its_holder(url: str, tmp_path: Path) -> None:
    folder, other = folder_in(tmp_path), tmp_path / "other"
    point_to(folder, url)
    point_to(other, url)
    holder = get_context("spawn").Process(target=_hold, args=(folder, url))
    holder.start()
    while not (folder / "held").exists():
        time.sleep(0.01)
    if url.startswith("postgresql"):  # in SQLite all studies of a file share one lock
        with exclusive(other):
            pass
    assert holder.pid
    began = time.monotonic()
    waiting = get_context("spawn").Process(target=_hold, args=(folder, url, "waited"))
    waiting.start()
    time.sleep(1.0)
    assert not (folder / "waited").exists()
    os.kill(holder.pid, signal.SIGKILL)
    while not (folder / "waited").exists():
        assert time.monotonic() - began < 60
        time.sleep(0.01)
    for process in (holder, waiting):
        process.kill()
        process.join()


def _hold(folder: Path, url: str, mark: str = "held") -> None:
    point_to(folder, url)
    with exclusive(folder):
        (folder / mark).touch()
        time.sleep(60)


def test_a_study_whose_making_was_cut_short_is_completed(url: str, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    point_to(folder, url)
    with pytest.raises(InputError, match="its study has not begun"):
        read_study(folder)
    study = optuna.create_study(study_name=folder.name, storage=storage_of(folder), direction="maximize")
    study.set_user_attr("task", "segment")
    ledger = open_ledger(folder, SCORE, {"task": "segment", "objectives": ["score"]})
    assert ledger.attributes == {"task": "segment", "objectives": ["score"]}
    with pytest.raises(InputError, match="this study's task is segment"):
        open_ledger(folder, SCORE, {"task": "pose"})


def test_a_study_of_another_program_is_left_alone(url: str, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    point_to(folder, url)
    study = optuna.create_study(study_name=folder.name, storage=storage_of(folder), direction="maximize")
    study.ask()
    with pytest.raises(InputError, match="of another program; give another --name"):
        open_ledger(folder, SCORE, {"objectives": ["score"]})


def test_a_password_is_never_written(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_in(tmp_path)
    point_to(folder, server)
    search(folder, 1)
    assert "s3cret" not in (folder / "storage.txt").read_text()
    monkeypatch.setattr(sys, "argv", ["hrsearch", "run", "hrvit", "--storage", server])
    assert "s3cret" not in _command()
    read = "from pathlib import Path; from hrsearch.study import read_study; print(len(read_study(Path('.')).trials))"
    another: dict[str, Any] = {"args": [sys.executable, "-c", read], "cwd": folder, "capture_output": True}
    monkeypatch.delenv(SECRET, raising=False)
    assert SECRET in subprocess.run(**another, text=True, check=False).stderr.splitlines()[-1]
    monkeypatch.setenv(SECRET, server)
    assert subprocess.run(**another, text=True, check=True).stdout == "1\n"


@pytest.fixture(params=["postgresql", "sqlite"])
def fleeting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Callable[[], object]]]:
    """A database of each kind, and what takes it away."""
    if request.param == "sqlite":
        path = tmp_path / "fleeting.db"
        yield f"sqlite:///{path}", lambda: path.write_bytes(b"lost" * 4096)
        return
    url = make_url(request.getfixturevalue("server"))
    engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def do(statement: str) -> None:
        with engine.connect() as connection:
            connection.execute(text(statement))

    do("create database fleeting")
    yield url.set(database="fleeting").render_as_string(hide_password=False), lambda: do(GO_AWAY)
    do(GO_AWAY)
    engine.dispose()


def test_a_database_that_is_lost_is_told_in_one_line(
    fleeting: tuple[str, Callable[[], object]], tmp_path: Path
) -> None:
    url, lose = fleeting
    folder = folder_in(tmp_path)
    point_to(folder, url)
    search(folder, 2)
    note = noting(folder)
    note({"target:board": {}})
    assert "target:board" in read_study(folder).attributes
    lose()
    for act in (lambda: read_study(folder), lambda: noting(folder), lambda: note({"target:board": {"batch": 1}})):
        with pytest.raises(InputError, match=r"^storage \S+ was lost \(.+\); the same command goes on$"):
            act()
    told = inside(tmp_path, "watch", str(folder), "--once")
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)


def test_a_full_disk_stops_a_search_in_a_file_of_sqlite(tmp_path: Path) -> None:
    """Its file may not grow for a while, which SQLite tells as it does a full disk."""
    url, most = f"sqlite:///{tmp_path / 'full.db'}", [2**20]

    def bound(connection: sqlite3.Connection, *_: Any) -> None:
        connection.executescript(f"pragma max_page_count = {most[-1]}; pragma synchronous = off")

    folder = folder_in(tmp_path)
    event.listen(Pool, "checkout", bound)
    try:
        point_to(folder, url)
        with pytest.raises(OSError, match="no room left on the disk") as error:
            search(folder, 40, on_event=lambda _: most.append(1))
        assert (is_disk_full(error.value), error.value.filename) == (True, public_url(url))
        most.append(2**20)
        assert search(folder, 3).startswith("3 of 3")
    finally:
        event.remove(Pool, "checkout", bound)


def test_who_only_reads_points_to_nothing_that_is_not_there(url: str, tmp_path: Path) -> None:
    """Nor does it leave anything: the right name and the right URL are accepted after it."""
    folder = folder_in(tmp_path, "there")
    point_to(folder, url)
    store(dataclasses.replace(example_record(4), folder=folder))
    wrong = inside(tmp_path, "watch", f"{folder.name}s", "--once", "--storage", url)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert f": holds no study '{folder.name}s'; did you mean '{folder.name}'?" in wrong.stderr
    assert not (tmp_path / "studies").exists()
    assert inside(tmp_path, "watch", folder.name, "--once", "--storage", url).stdout.startswith(f"{folder.name}: 4 ")


def test_who_only_reads_makes_no_database(tmp_path: Path) -> None:
    absent, other = tmp_path / "absent.db", tmp_path / "other.db"
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("create table birds (name text)")
    before = other.read_bytes()
    for path in (absent, other):
        for command in (["watch", "toy", "--once"], ["report", "toy"], ["compare", "toy", "two"], ["finalize", "toy"]):
            told = inside(tmp_path, *command, "--storage", f"sqlite:///{path}")
            assert (told.returncode, told.stdout, told.stderr.count("\n")) == (2, "", 1)
            assert f"{path}: no study was ever begun there; is that where it lies?" in told.stderr
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "storage.txt").write_text(f"sqlite:///{absent}\ntoy\n")
    with pytest.raises(InputError, match="no study was ever begun there"):
        read_study(tmp_path / "toy")
    assert other.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.db", "toy"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pw@host:5433/db?sslmode=require", "postgresql://me@host:5433/db?sslmode=require"),
        ("postgresql+psycopg://me@host/db?password=pw", "postgresql+psycopg://me@host/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert public_url(url) == without_password(url) == shown
    assert without_password(f"--storage={url}") == f"--storage={shown}"
    assert without_password("postgresql://host:port/db") == "postgresql://host:port/db"
    assert without_password("--limit=latency=80ms") == "--limit=latency=80ms"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("studies.db", "storage: expected postgresql://user@host/database or sqlite:///file"),
        ("postgres://me@host/db", "storage postgres://: did you mean 'postgresql'?"),
        ("sqlite://", "storage sqlite://: give a file"),
        ("postgresql://me:pw@host:port/db", "storage: expected postgresql://user@host/database or sqlite:///file"),
        ("sqlite:////absent/folder/a.db", "storage sqlite:////absent/folder/a.db cannot be opened"),
        ("postgresql://me:pw@127.0.0.1:1/db", "storage postgresql://me@127.0.0.1:1/db cannot be opened"),
    ],
)
def test_a_wrong_storage_is_one_line(url: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        point_to(tmp_path / "toy", url)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert "pw" not in str(error.value)
    assert not (tmp_path / "toy").exists()


def test_a_folder_has_one_study(tmp_path: Path) -> None:
    search(tmp_path / "file", 1)
    with pytest.raises(InputError, match=r"its study lies in study\.journal"):
        point_to(tmp_path / "file", f"sqlite:///{tmp_path}/a.db")
    point_to(tmp_path / "toy", f"sqlite:///{tmp_path}/a.db")
    said = r"its study lies in sqlite:///.*a\.db, not in .*b\.db; .*, or remove .*toy/storage\.txt if that is wrong"
    with pytest.raises(InputError, match=said):
        point_to(tmp_path / "toy", f"sqlite:///{tmp_path}/b.db")
