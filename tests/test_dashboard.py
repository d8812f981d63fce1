"""optuna-dashboard opens a study as it is. Skipped where it is not installed."""

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from toy_search import search

from hrsearch.study import read_study

PROGRAM = shutil.which("optuna-dashboard", path=str(Path(sys.executable).parent)) or shutil.which("optuna-dashboard")


@pytest.mark.skipif(not PROGRAM, reason="no optuna-dashboard here")
def test_the_dashboard_shows_a_study(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    search(folder, 6, limits=("flops<=0.25G",))
    record = read_study(folder)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PROGRAM), str(folder / "study.journal"), "--port", str(port), "--host", "127.0.0.1"]
    dashboard = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        (summary,) = json.loads(_got(dashboard, f"http://127.0.0.1:{port}/api/studies"))["study_summaries"]
        assert summary["study_name"] == "toy"
        assert summary["directions"] == ["maximize", "minimize", "minimize"]
        page = _got(dashboard, f"http://127.0.0.1:{port}/dashboard/studies/{summary['study_id']}")
        assert b"<html" in page.lower()
        shown = json.loads(_got(dashboard, f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}"))
        assert len(shown["trials"]) == len(record.trials) > 6
        states = [trial["state"] for trial in shown["trials"]]
        assert states.count("Complete") == len(record.trained) == 6
        assert states.count("Pruned") == len(record.trials) - 6
        assert shown["objective_names"] == ["score", "flops", "latency"]
    finally:
        dashboard.terminate()
        dashboard.wait()


def _got(dashboard: "subprocess.Popen[Any]", url: str) -> bytes:
    """What the dashboard answers, once it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and dashboard.poll() is None:
        with suppress(ConnectionError, urllib.error.URLError), urllib.request.urlopen(url, timeout=20) as answer:
            return bytes(answer.read())
        time.sleep(0.1)
    raise AssertionError("the dashboard did not answer")
