"""What a person sees of a long command where there is no terminal: in a file, by nohup, in a job's log."""

import pytest
from example_study import example_record

from hrsearch import progress
from hrsearch.retrain.work import Done


def drawn(leave: bool) -> None:
    bar = progress._bar(4, 1, leave=leave)
    for _ in range(3):
        bar.update()
        bar.refresh()
        progress._say(bar, f"{bar.n} done")
    bar.close()


def test_a_log_gets_a_line_a_minute_and_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    for leave in (True, False):
        drawn(leave)
        said = capsys.readouterr().err
        assert not {"\r", "\x1b"} & set(said)
        lines = said.splitlines()
        assert "2/4" in lines[0]  # not before it has moved
        assert lines[1:4] == ["2 done", "3 done", "4 done"]
        assert "4/4" in lines[4]
        assert len(lines) == 5


def test_a_line_is_due_again_after_its_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_S", 0.0)
    drawn(leave=True)
    shown = [line for line in capsys.readouterr().err.splitlines() if "/4" in line]
    assert all(any(f"{done}/4" in line for line in shown) for done in (2, 3, 4))


def test_a_bar_that_did_not_move_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress._bar(4, 1).close()
    assert capsys.readouterr().err == ""


def test_the_first_job_counts_in_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the bar comes with its end: of ten, one that took a minute leaves nine."""
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    trial = example_record(2).trials[1]
    with progress._shown_work() as show:
        for done in (1, 2):
            now[0] += 60
            show(Done(trial, "key", {}, done, 10))
    last = capsys.readouterr().err.splitlines()[-1]
    assert "2/10 [02:00<08:00, 60.00s/net]" in last
