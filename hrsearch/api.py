"""The whole road from Python: search a space, read the study, report on it, export its winners."""

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hrsearch.arch import Arch
from hrsearch.candidate import weights_path
from hrsearch.errors import InputError
from hrsearch.objective import Cost, objective_of, parse_limit
from hrsearch.runner import Measure, Runner, load_runner
from hrsearch.space import Space, load_space
from hrsearch.storage import holds_study, point_to
from hrsearch.study import Record, Trial, folder_of, read_study
from hrsearch.targets import on_target
from hrsearch.trust import Card, to_pick_from

if TYPE_CHECKING:
    import pandas as pd

    from hrsearch.planning import Forecast, Timed
    from hrsearch.proxy.data import Dataset
    from hrsearch.search.driver import Event, Judging

HOME = Path("studies")
PROTOCOL = 5  # grows when the same runner starts to mean another way of judging, by another default, too


@dataclass(frozen=True)
class Study:
    """A study in its folder. Every call reads it as it stands now."""

    folder: Path
    ending: str = ""  # why the search that returned it ended
    target: str | None = None  # seen from where, if not from where it was searched

    @property
    def record(self) -> Record:
        """All that is stored."""
        record = read_study(self.folder)
        return on_target(record, self.target) if self.target else record

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial: state, figures, a column per knob."""
        return self.record.table()

    def front(self) -> tuple[Trial, ...]:
        """Trained trials that no other one beats in every objective, best score first."""
        return self.record.front()

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, by default `report.html` in the study's folder, and `trials.csv` beside it."""
        from hrsearch.report import write_report

        return write_report(self.record, Path(path) if path else self.folder / "report.html")

    def measure(self, how: Measure, name: str | None = None) -> str:
        """Measure its networks again, elsewhere or otherwise; the target's name, for `on`. Nothing is retrained."""
        from hrsearch.retarget import retarget

        return retarget(self.folder, how, name)

    def calibrate(self, count: int = 12, times: int = 10, seeds: int = 1, zero_cost: Sequence[str] = ()) -> Card:
        """How far its scores can be trusted: some of its networks trained `times` as long, with other seeds."""
        from hrsearch.retrain import calibrate

        return calibrate(self.folder, count, times, seeds, zero_cost)

    def finalize(self, seeds: int = 3, times: int = 3, most: int | None = None) -> tuple[Trial, ...]:
        """Its confirmed front: the front and what is as good within the noise trained with more seeds.

        `most` networks are trained, the front first; by default twice as many as that has.
        """
        from hrsearch.retrain import finalize

        return finalize(self.folder, seeds, times, most=most).front()

    def on(self, target: str) -> "Study":
        """The study as if it had been measured there."""
        return replace(self, target=target)

    def export(self, choice: str, to: str | Path, formats: Sequence[str] = ("native",)) -> Path:
        """Write the winner that `choice` names ("knee", "best", "trial:17", "latency<=30ms") to the folder `to`.

        `formats`: native (always), onnx, pt2, standalone, mmseg, timm.
        """
        from hrsearch.export import export

        return export(to_pick_from(self.record, choice), choice, Path(to), formats)


@dataclass(frozen=True)
class Asked:
    """What a person asks of a search: what is searched, how, until when, and where the study lies.

    `storage` is the URL of a database that holds the study instead of the folder; `earlier` are folders of studies that
    were judged in the same way; `command` is what is typed to go on, for the report. A search without an end, or with
    one that lies behind it, is an InputError.
    """

    space: Space
    runner: Runner
    folder: Path
    budget: int | None = 200
    hours: float | None = None
    storage: str | None = None
    earlier: tuple[Path, ...] = ()
    command: str | None = None

    def __post_init__(self) -> None:
        _check_end(self.budget, self.hours)


def search(
    space: Space | str | Path,
    runner: Runner | str | Path | None = None,
    budget: int | None = 200,
    *,
    hours: float | None = None,
    name: str | None = None,
    storage: str | None = None,
    warm_start: Sequence[str | Path] = (),
    on_event: "Callable[[Event], None]" = lambda event: None,
) -> Study:
    """Search until the study holds `budget` candidates in total or was searched for `hours`, whatever comes first.

    The same call again resumes it; None stands for no bound, and for the space's own runner or this machine's default
    (`default_runner`). Another task is the space's business
    (`load_space("hrvit", task="pose")`), other data, objectives and limits are the runner's
    (`hrsearch.api.with_changes`). `name` is the study's below `studies/`, or the path of its folder; by default the
    space's, with the task where that is not the space's own. With `storage`, the URL of a database
    (`postgresql://user@host/name`, `sqlite:///file`), the study of that name lies there, and drivers on several
    machines share it. The studies of `warm_start` (names or folders) were judged under the same protocol: what they
    trained is taken over first. It costs no training, and counts as candidates.
    """
    space = space if isinstance(space, Space) else load_space(space)
    runner = runner if isinstance(runner, Runner) else load_runner(runner or default_runner(space))
    earlier = tuple(folder_of(str(one), HOME) for one in warm_start)
    folder = folder_of(name or space.name, HOME)
    return searched(Asked(space, runner, folder, budget, hours, storage, earlier), on_event)


def searched(asked: Asked, on_event: "Callable[[Event], None]" = lambda event: None) -> Study:
    """The study after the search; `on_event` is told of every trial that begins or ends."""
    from hrsearch.evaluate import prepare
    from hrsearch.proxy import proxy_data
    from hrsearch.search.driver import drive

    if asked.storage:
        point_to(asked.folder, asked.storage)
    prepare()  # the driver counts costs while the workers train: it, too, gets by with one thread
    _require_machine(asked.runner)
    data = proxy_data(asked.runner.proxy, asked.space.task)
    reference_ms = _reference_ms([asked.folder, *asked.earlier], asked.runner)
    tidy = Seldom(lambda: _keep_front_weights(asked.folder))

    def note(event: "Event") -> None:
        if event.trial.state == "trained":
            tidy()
        on_event(event)

    ending = drive(
        asked.space,
        asked.runner,
        _judging(asked, data, reference_ms),
        budget=asked.budget,
        hours=asked.hours,
        folder=asked.folder,
        attributes=_conditions(asked, data, reference_ms),
        on_event=note,
    )
    _keep_front_weights(asked.folder)
    return Study(asked.folder, ending)


def plan(
    space: Space,
    runner: Runner,
    *,
    budget: int | None = None,
    hours: float | None = None,
    on_timed: "Callable[[Timed], object]" = lambda timed: None,
) -> "Forecast":
    """What a search will take here: three candidates are timed, the engine's workers as busy as a search makes them,
    and the published networks; `on_timed` is told of each. What `Asked` refuses is an InputError here, too."""
    _check_end(budget, hours)
    from hrsearch.cost import reference_time
    from hrsearch.planning import Trying, forecast
    from hrsearch.proxy import proxy_data

    _require_machine(runner)
    classes = len(proxy_data(runner.proxy, space.task).classes)
    reference_ms = reference_time(runner.measure.engine, runner.measure.threads)
    trying = Trying(runner, reference_ms, space.task, space.plugins)
    return forecast(space, runner, trying, cost_counter(runner, classes), budget=budget, hours=hours, on_timed=on_timed)


def with_changes(
    runner: Runner, *, data: str | None = None, objectives: Sequence[str] = (), limits: Sequence[str] = ()
) -> Runner:
    """The runner with other data, objectives or further limits; they are checked as if they stood in its file."""
    for objective in objectives:
        objective_of(objective)
    if len(set(objectives)) < len(objectives):
        raise InputError(f"each objective once, but got {', '.join(objectives)}")
    plain = runner.model_dump()
    if data:
        plain["proxy"]["data"] = data
    if objectives:
        plain["search"]["objectives"] = tuple(objectives)
    named = {parse_limit(limit).objective for limit in limits}
    kept = [limit for limit in runner.search.limits if parse_limit(limit).objective not in named]
    plain["search"]["limits"] = (*kept, *limits)
    return Runner.model_validate(plain)


def default_runner(space: Space) -> str | Path:
    """The runner for this machine: the space's own, else "gpu" where torch finds one and "laptop" where not."""
    from hrsearch.cost import has_cuda

    device, shipped = ("cuda", "gpu") if has_cuda() else ("cpu", "laptop")
    return space.runner(device) or shipped


def cost_counter(runner: Runner, classes: int) -> Callable[[Arch], Cost]:
    """Counts a network's exact costs at its own image size, or else at that at which the runner deploys it."""
    from hrsearch.cost import cost

    return lambda arch: cost(arch, arch.image or runner.measure.image, classes)


def machine() -> dict[str, Any]:
    """The machine as far as it bears on a measurement."""
    from hrsearch.cost.machine import processor

    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def versions() -> dict[str, str]:
    """The versions that a score or a latency depends on."""
    from hrsearch.cost.machine import version_of

    packages = ("hrsearch", "torch", "optuna", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{package: version_of(package) for package in packages}}


def _check_end(budget: int | None, hours: float | None) -> None:
    """An InputError for a search without an end, or with one that lies behind it."""
    if budget is None and hours is None:
        raise InputError("a search needs an end: a budget of candidates, hours, or both")
    if budget is not None and budget < 1:
        raise InputError(f"budget: at least 1 candidate, but got {budget}")
    if hours is not None and not 0 < hours < math.inf:
        raise InputError(f"hours: more than none and finite, but got {hours:g}")


def _judging(asked: Asked, data: "Dataset", reference_ms: float) -> "Judging":
    """What judges the candidates."""
    from hrsearch.cost.forecast import Forecast
    from hrsearch.evaluate import PRELOAD, Evaluate, prepare, untrained
    from hrsearch.search.driver import Judging

    space, runner = asked.space, asked.runner
    evaluate = Evaluate(runner, reference_ms, space.task, space.plugins, data.split)
    return Judging(
        cost_counter(runner, len(data.classes)),
        evaluate,
        preload=PRELOAD,
        prepare=prepare,
        forecast=Forecast(runner.measure.image, len(data.classes)),
        untrained=untrained(runner, data),
        earlier=asked.earlier,
        # All drivers of a study scale latencies alike, by what the first of them has found.
        under=lambda attributes: replace(evaluate, reference_ms=float(attributes["reference_ms"])),
    )


def _conditions(asked: Asked, data: "Dataset", reference_ms: float) -> dict[str, Any]:
    """Attributes that a new study keeps: under what its candidates were judged."""
    return {
        "classes": list(data.classes),
        "split": data.split,
        "protocol": _protocol(asked.runner, data.split),
        "reference_ms": reference_ms,
        "versions": versions(),
        "machine": machine(),
        **({"command": asked.command} if asked.command else {}),
    }


class Seldom:
    """Calls a function, but not so often that it takes more than a tenth of the time.

    Reading a study of a thousand trials takes half a second, and with a hundred workers one ends every half second.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._due = 0.0

    def __call__(self) -> None:
        """Call it, unless it was called too lately."""
        began = time.monotonic()
        if began >= self._due:
            self._function()
            ended = time.monotonic()
            self._due = ended + 9 * (ended - began)


def _keep_front_weights(folder: Path) -> None:
    """Remove the weights of drawn candidates that are not on the front: hundreds of networks would fill a laptop.

    Those with which a candidate begins that has not ended stay, too.
    """
    record = read_study(folder)
    kept = {trial.number for trial in record.front()}
    unfinished = [trial.attributes for trial in record.trials if trial.state in ("running", "waiting")]
    kept |= {attributes["relative"] for attributes in unfinished if "relative" in attributes}
    for trial in record.trials:  # those that a limit refused after their training have weights, too
        if trial.state not in ("running", "waiting") and trial.number not in kept and not trial.attributes.get("known"):
            weights_path(folder, trial.number).unlink(missing_ok=True)


def _reference_ms(folders: Sequence[Path], runner: Runner) -> float:
    """What latencies are scaled to: the figure of the first of these studies that has begun, else a measurement."""
    from hrsearch.cost import reference_time

    for folder in filter(holds_study, folders):
        with suppress(InputError):  # it has not begun
            stored: Mapping[str, Any] = read_study(folder).attributes
            if "reference_ms" in stored:
                return float(stored["reference_ms"])
    return reference_time(runner.measure.engine, runner.measure.threads)


def _require_machine(runner: Runner) -> None:
    """An InputError where a runner asks for what is not here, before anything is made; other machines may have it."""
    from hrsearch.cost import has_cuda, require_engine

    here = runner.engine.kind in ("inline", "processes")
    require_engine(runner.measure.engine, here=here)
    if runner.device == "cuda" and here and not has_cuda():
        raise InputError("the runner's device: cuda needs an NVIDIA GPU and a CUDA build of torch; write device: cpu")


def _protocol(runner: Runner, split: str) -> str:
    """Digest of what a score and a latency depend on besides the network and the seed.

    Of settings that are the default nothing is in it, so that a key which is new in this program changes no study's.
    Nor is where a person's own data lies, or how that is written: its split says what it is.
    """
    from hrsearch.proxy.data import is_made

    judging = {"proxy": runner.proxy, "measure": runner.measure}
    plain = {name: section.model_dump(mode="json", exclude_defaults=True) for name, section in judging.items()}
    if not is_made(runner.proxy.data):
        plain["proxy"].pop("data", None)
    text = json.dumps([PROTOCOL, runner.device, plain, split], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
