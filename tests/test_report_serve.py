"""The report as a local page: it follows the study, it is read-only, and it is this machine's alone by default."""

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inside import inside
from toy_search import search

from hrsearch.report.serve import server_of
from hrsearch.storage import point_to


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A study with three candidates, and where its report is."""
    folder = tmp_path / "studies" / "toy"
    search(folder, 3)
    with serving(folder) as address:
        yield folder, address


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a server of the study's report."""
    server = server_of(folder, "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetched(address: str) -> tuple[str, dict[str, str]]:
    with urllib.request.urlopen(address) as answer:
        return answer.read().decode(), dict(answer.headers)


def test_the_page_follows_the_study(served: tuple[Path, str]) -> None:
    folder, address = served
    first, headers = fetched(address + "/")
    assert "3 networks trained" in first
    assert int(headers["Refresh"]) > 0
    search(folder, 5)
    assert "5 networks trained" in fetched(address + "/")[0]
    assert not (folder / "report.html").exists()


def test_nothing_but_the_page_and_its_table_is_served(served: tuple[Path, str]) -> None:
    assert fetched(served[1] + "/trials.csv")[0].splitlines()[0].startswith("number,")
    for path in ("/study.journal", "/../study.journal", "/?x"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(served[1] + path)
    request = urllib.request.Request(served[1] + "/", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(request)


def test_a_database_that_is_lost_while_the_page_is_served(tmp_path: Path) -> None:
    folder, path = tmp_path / "toy", tmp_path / "toy.db"
    point_to(folder, f"sqlite:///{path}")
    search(folder, 1)
    with serving(folder) as address:
        assert "1 network trained" in fetched(address + "/")[0]
        path.write_bytes(b"lost" * 4096)
        with pytest.raises(urllib.error.HTTPError, match="503") as error:
            fetched(address + "/")
    assert "toy.db was lost (" in error.value.read().decode()


def test_a_port_that_is_taken_and_a_study_that_is_not_there(tmp_path: Path) -> None:
    search(tmp_path / "studies" / "toy", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = inside(tmp_path, "report", "toy", "--serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "--port" in done.stderr
    assert "cannot be used" in done.stderr
    elsewhere = inside(tmp_path, "report", "toy", "--serve", "--host", "192.0.2.1", "--port", "0")
    assert "--host '192.0.2.1': cannot be used" in elsewhere.stderr
    nowhere = inside(tmp_path, "report", "toy", "--to", "/proc/x/y.html")
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (2, 1)
    assert inside(tmp_path, "report", "tay", "--serve").returncode == 2
