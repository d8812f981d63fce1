"""What a person sees while a search runs: a bar, a line per new front member, a report every few minutes."""

import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from hrsearch import api
from hrsearch.errors import InputError
from hrsearch.objective import OBJECTIVES, readable
from hrsearch.pick import value_of
from hrsearch.report.words import duration, study_argument
from hrsearch.runner import Measure, Runner
from hrsearch.search.driver import Event
from hrsearch.search.remaining import is_over, searched_seconds, seconds_left
from hrsearch.search.verdict import is_spent
from hrsearch.space import Space
from hrsearch.storage import without_password
from hrsearch.study import Record, Trial, folder_of, read_study
from hrsearch.targets import on_target
from hrsearch.trust.confirmed import chances, confirmed, lucky, seeds_of

if TYPE_CHECKING:
    from hrsearch.retrain import Done

REPORT_S = 180.0
LOG_S = 60.0
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"  # tqdm's own remainder knows nothing of rungs

Told = tuple[Iterable[str], dict[str, Any]]  # in words, and for machines


class Progress:
    """Shows the events of one search of the study in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bar: tqdm[Any] | None = None
        self._front: set[int] | None = None  # numbers; None until the study is first read
        self._best = "-"
        self._due = 0.0
        self._workers = 1
        self._end: float | None = None  # when the search should end, of the monotonic clock
        self._look = api.Seldom(lambda: self._read(read_study(self.folder)))

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        bar = self._shown(event)
        self._workers = max(self._workers, event.counts.running)
        if event.message:
            _say(bar, event.message)
        if event.trial.state != "running":
            self._tell_end(bar, event)
        bar.n = event.counts.done
        bar.refresh()

    def close(self) -> None:
        """Leave the terminal as it should be."""
        if self._bar is not None:  # tqdm has no truth where it knows no total
            self._bar.close()

    def report(self) -> None:
        """Write the report now."""
        from hrsearch.report import write_report

        write_report(read_study(self.folder), self.folder / "report.html")
        self._due = time.monotonic() + REPORT_S

    def _shown(self, event: Event) -> "tqdm[Any]":
        if self._bar is None:
            counts = event.counts
            self._bar = _bar(counts.budget, counts.done, bar_format=BAR)
        return self._bar

    def _tell_end(self, bar: "tqdm[Any]", event: Event) -> None:
        if event.trial.state == "failed":
            _say(bar, f"{event.trial.name} failed: {event.trial.attributes.get('reason')}")
        if event.trial.state in ("trained", "waiting"):
            self._look()
        bar.set_postfix_str(self._words(event))

    def _read(self, record: Record) -> None:
        left = seconds_left(record, self._workers)
        self._end = None if left is None else time.monotonic() + left
        self._tell_front(record)

    def _tell_front(self, record: Record) -> None:
        front = record.front()
        before, self._front = self._front, {trial.number for trial in front}
        for trial in front:
            if self._bar is not None and before is not None and trial.number not in before:
                _say(self._bar, f"new on the front: {described(trial)}")
        unit = record.objectives[0].unit
        self._best = readable(float(front[0].values[0] or 0), unit) if front else "-"  # the best of it comes first
        if time.monotonic() >= self._due:
            self.report()

    def _words(self, event: Event) -> str:
        counts = event.counts
        best = f", best {self._best}, front {len(self._front)}" if self._front else ""
        if counts.waiting or counts.stopped:
            best = f", {counts.trained} in full{best}"
        left = f"{about(self._end - time.monotonic())}, " if self._end else ""
        return f"{left}{counts.running} running, {counts.failed} failed, {counts.refused} refused{best}"


def about(seconds: float) -> str:
    """How long it still takes: `about 12 min left`."""
    return f"about {duration(max(seconds, 0.0))} left"


def described(trial: Trial) -> str:
    """A trial in a line: `trial 17: score 0.412, 1.2G FLOPs, 83.1ms, 0.9M parameters`."""
    known = trial.attributes
    words = []
    if known.get("score"):
        words.append(f"{known['score']['metric']} {known['score']['value']:.3f}")
    if known.get("flops"):
        words.append(f"{readable(known['flops'])} FLOPs")
    if known.get("latency"):
        words.append(readable(known["latency"]["median_ms"], "ms"))
    if known.get("params"):
        words.append(f"{readable(known['params'])} parameters")
    memory = {"memory": "of memory", "training_memory": "in training"}
    words += [f"{readable(known[name]['bytes'], 'B')} {what}" for name, what in memory.items() if known.get(name)]
    return f"{trial.name}: {', '.join(words)}"


def searched(asked: api.Asked) -> Told:
    """Run a search for the command line: how it ended, and what to do next."""
    asked = replace(asked, command=_command())
    progress = Progress(asked.folder)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        study = api.searched(asked, progress)
    except KeyboardInterrupt:
        progress.close()
        stopped("finished")
    finally:
        progress.close()
    progress.report()
    record = study.record
    front = [f"  {described(trial)}" for trial in study.front()[:10]]
    lines = [study.ending, *front, *_next(asked.folder / "report.html", record)]
    return lines, json_of(record) | {"ending": study.ending}


def planned(space: Space, runner: Runner, budget: int | None, hours: float | None) -> Told:
    """Say for the command line what a search will take, with a bar of the networks that are timed for that."""
    from hrsearch.planning import json_of as json_of_plan
    from hrsearch.planning import lines_of

    with _bar(3 + len(space.known), leave=False) as bar:
        found = api.plan(space, runner, budget=budget, hours=hours, on_timed=lambda timed: bar.update())
    return lines_of(found), json_of_plan(found)


def measured_again(study: str, *, name: str | None, **changes: Any) -> Told:
    """Measure a study's networks again for the command line, and write the report: what is on the front there."""
    from hrsearch.report import write_report
    from hrsearch.retarget import Measured, retarget

    folder = folder_of(study, api.HOME)
    usual = read_study(folder).attributes["runner"]["measure"]
    how = Measure.model_validate(usual | {key: value for key, value in changes.items() if value is not None})
    bar: tqdm[Any] | None = None
    reason = "nothing was trained"

    def show(one: Measured) -> None:
        nonlocal bar, reason
        bar = bar or _bar(one.total, one.done - 1)
        bar.update()
        if "reason" in one.result:
            reason = str(one.result["reason"])
            _say(bar, f"{one.trial.name} failed: {reason}")

    try:
        target = retarget(folder, how, name, show)
    except KeyboardInterrupt:
        stopped("measured")
    finally:
        if bar:
            bar.close()
    write_report(read_study(folder), folder / "report.html")
    record = read_study(folder)
    if not on_target(record, target).trained:
        raise InputError(f"{record.name}: no network could be measured on {target}; the last one: {reason}")
    there = confirmed(on_target(record, target))  # by the scores that an export picks by
    head = f"{len(on_target(record, target).trained)} networks measured on {target}; the front there:"
    front = [f"  {described(trial)}" for trial in there.front()[:10]]
    lines = [head, *front, *_next(folder / "report.html", record, f" --on {target}")]
    return lines, json_of(there) | {"on": target}


def calibrated(study: str, count: int, *, times: int, seeds: int, zero_cost: bool) -> Told:
    """Train some of a study's networks long for the command line, and write the report: the trust card."""
    from hrsearch.registry import ZERO_COST
    from hrsearch.report import write_report
    from hrsearch.retrain import calibrate
    from hrsearch.trust.words import json_of as json_of_card
    from hrsearch.trust.words import lines_of

    folder = folder_of(study, api.HOME)
    with _shown_work() as show:
        card = calibrate(folder, count, times, seeds, list(ZERO_COST) if zero_cost else (), show, _say_how_long)
    path = write_report(read_study(folder), folder / "report.html")
    return [*lines_of(card), f"report:  {path}"], json_of_card(card)


def finalized(study: str, *, seeds: int, times: int, most: int | None) -> Told:
    """Confirm a study's front for the command line, and write the report: what is on the front now."""
    from hrsearch.report import write_report
    from hrsearch.retrain import finalize

    folder = folder_of(study, api.HOME)
    with _shown_work() as show:
        view = finalize(folder, seeds, times, show, most)
    record = read_study(folder)
    path = write_report(record, folder / "report.html")
    odds = chances(view)
    lines = [
        f"{len(view.trials)} networks trained {times} times as long with {seeds_of(view)} seeds; the confirmed front:"
    ]
    for trial in view.front():
        score = trial.attributes["score"]
        interval = f"{score['low']:.3f} to {score['high']:.3f}"
        lines.append(f"  {described(trial)} (score {interval}; on the front with {odds[trial.number]:.0%})")
    dropped = lucky(record)
    lines += [f"  {trial.name} was lucky: on the front with {odds[trial.number]:.0%}" for trial in dropped]
    figures = [
        _figures(trial) | {"interval": [trial.attributes["score"][end] for end in ("low", "high")]}
        for trial in view.trials
    ]
    found = [one | {"on_front": odds[one["trial"]]} for one in figures]
    told = {"confirmed": found, "lucky": [trial.number for trial in dropped], "report": str(path)}
    return [*lines, *_next(path, record)], told


def _say_how_long(seconds: float) -> None:
    """Before the bar can tell, which is after the slowest networks."""
    if seconds:
        print(f"trainings of {duration(seconds)} of one worker in all, the longest first", file=sys.stderr)


@contextmanager
def _shown_work() -> "Iterator[Callable[[Done], None]]":
    """A bar that moves with every job that is done; Ctrl-C says how to go on."""
    bar: tqdm[Any] | None = None
    began = time.time()  # the bar comes with the first that is done, which may take the longest

    def show(one: "Done") -> None:
        nonlocal bar, began
        if bar is None or one.done <= bar.n:  # a further round of jobs
            if bar:
                bar.close()
            bar = _bar(one.total, one.done - 1, smoothing=0)
            bar.start_t = bar.last_print_t = began
        bar.update()
        if one.done == one.total:
            began = time.time()
        if "reason" in one.result:
            _say(bar, f"{one.trial.name} failed: {one.result['reason']}")

    try:
        yield show
    except KeyboardInterrupt:
        stopped("trained")
    finally:
        if bar:
            bar.close()


def watched(folder: Path, every_s: float) -> None:
    """Print where the study stands again and again, in place of what was printed before."""
    lines = 0
    with suppress(KeyboardInterrupt):
        while True:
            shown = list(standing(read_study(folder)))
            if lines and sys.stdout.isatty():
                print(f"\x1b[{lines}A\x1b[J", end="")
            print("\n".join(shown), flush=True)
            lines = len(shown)
            time.sleep(every_s)


def standing(record: Record) -> Iterator[str]:
    """Where a study stands: its trials by state, how fast it goes, its front."""
    counts = Counter(trial.state for trial in record.trials)
    budget, hours = record.attributes.get("budget"), record.attributes.get("hours")
    judged = [trial for trial in record.trials if is_spent(trial.attributes)]
    ours = [trial.finished for trial in judged if trial.finished and "copied_from" not in trial.attributes]
    yield f"{record.name}: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    searched = searched_seconds(record) or (max(ours) - min(ours)).total_seconds() if ours else 0.0
    if searched:
        last = max(datetime.now() - max(ours), timedelta())
        rate = 3600 * len(ours) / searched
        asked = (f" of a budget of {budget}" if budget else "") + (f" in {hours:g} hours" if hours else "")
        ago = f"the last {duration(last.total_seconds())} ago"
        yield f"{len(judged)} judged{asked}, {rate:.0f} an hour, {ago}{_onward(record, counts['running'])}"
    for trial in record.front()[:10]:
        yield f"  {described(trial)}"


def _onward(record: Record, running: int) -> str:
    """Whether it is finished, or how long it still takes; nothing where that cannot be told."""
    if is_over(record):
        return "; finished"
    left = seconds_left(record, running) if running else None
    return "" if left is None else f", {about(left)}"


def json_of(record: Record) -> dict[str, Any]:
    """Where a study stands, for machines."""
    running = sum(trial.state == "running" for trial in record.trials)
    return {
        "study": record.name,
        "folder": str(record.folder),
        "budget": record.attributes.get("budget"),
        "is_finished": is_over(record),
        "seconds_left": seconds_left(record, running) if running else None,
        "trials": dict(Counter(trial.state for trial in record.trials)),
        "front": [_figures(trial) for trial in record.front()],
    }


def _figures(trial: Trial) -> dict[str, Any]:
    """A trial's number and all that is known of it in figures; seconds and bytes are the objectives' units."""
    known = {name: value_of(trial, name) for name in OBJECTIVES}
    return {"trial": trial.number, **{name: value for name, value in known.items() if value is not None}}


def _next(report: Path, record: Record, there: str = "") -> list[str]:
    """The report, and the command that exports a winner of the study, as it is `there`."""
    winner = f"winner:  hrsearch export {study_argument(record)}{there} --pick knee --to winner/"
    return [f"report:  {report}", *([winner] if record.front() else [])]


class Log:
    """A bar's terminal where there is none, and nothing can be drawn over: a line a minute, and the last one.

    Nothing of a bar that has not moved.
    """

    def __init__(self) -> None:
        self._line = self._still = ""
        self._due = 0.0

    def write(self, text: str) -> None:
        """Take a drawing of the bar, or the line feed at its end."""
        self._line = text.strip() or self._line
        count = self._line.partition("[")[0]  # what is behind it moves with the time
        self._still = self._still or count
        if self._line and count != self._still and (text == "\n" or time.monotonic() >= self._due):
            print(self._line, file=sys.stderr, flush=True)
            self._line, self._due = "", time.monotonic() + LOG_S

    def flush(self) -> None:
        """Every line is written at once."""


def _bar(total: int | None, done: int = 0, *, leave: bool = True, **how: Any) -> "tqdm[Any]":
    """A bar of networks, `done` of them already."""
    log = None if sys.stderr.isatty() else Log()
    return tqdm(total=total, initial=done, unit="net", leave=leave or log is not None, file=log, **how)


def _say(bar: "tqdm[Any]", line: str) -> None:
    """A line above the bar, beside which it stays on stderr: stdout is for what comes out in the end."""
    if not bar.disable:
        bar.write(line, file=sys.stderr)


def stopped(kept: str) -> NoReturn:
    """End after Ctrl-C with what to do next, as a shell expects it: with code 130."""
    print(f"\nstopped; nothing {kept} is lost. The same command goes on:\n  {_command()}", file=sys.stderr)
    sys.exit(130)


def _command() -> str:
    """What was typed, without the password of a database: the study keeps it and the report shows it."""
    return shlex.join(["hrsearch", *map(without_password, sys.argv[1:])])


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
