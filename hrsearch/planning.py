"""What a search will take on this machine, before it begins: for `hrsearch plan`."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import InputError, NothingFits
from hrsearch.evaluate import PRELOAD, Evaluate, prepare, untrained
from hrsearch.objective import Cost, parse_limit, readable
from hrsearch.proxy import proxy_data
from hrsearch.proxy.data import Dataset
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.learning import learn, learner_of, validate
from hrsearch.runner import Proxy, Runner, proxy_of, trunk_of
from hrsearch.search.engines import engine_of
from hrsearch.search.engines.setup import Setup, Workers
from hrsearch.search.judging import judged, result_of
from hrsearch.search.promise import ASKED
from hrsearch.space import Space

DRAWS = 200
OFTEN = 10  # draws of each network on average, after which hardly any was not drawn
MOST = 16  # copies of a sample that are timed at once
WARM, STEPS = 3, 6  # steps of training before and while it is timed


@dataclass(frozen=True)
class Sample:
    """A candidate of the space, which one of all by size, or a published network by its name; and its FLOPs."""

    name: str
    arch: Arch
    flops: int


@dataclass(frozen=True)
class Timed:
    """What judging a candidate takes here: seconds once, and per step of training."""

    sample: Sample
    once: float
    step: float


@dataclass(frozen=True)
class Forecast:
    """What a search takes. The published networks of the space come first, are trained in full and count, too."""

    timed: tuple[Timed, ...]
    workers: int
    seconds: float  # of one worker, for a drawn candidate in the mean, with the rungs above it as they are reached
    budget: int | None
    hours: float | None
    published: tuple[float, ...] = ()  # seconds of one worker, for each of these networks
    holds: int | None = None  # networks within its limits that the space has beside these, where they are few

    @property
    def candidates(self) -> int:
        """How many candidates are judged by the end, published networks included."""
        fitting = []
        if self.hours:
            left = self.hours * 3600 * self.workers - sum(self.published)
            fitting = [len(self.published) + max(int(left / self.seconds), 0)]
        held = [] if self.holds is None else [len(self.published) + self.holds]
        return min([*fitting, *held, *([self.budget] if self.budget else [])])

    @property
    def end_s(self) -> float:
        """Seconds from the beginning to the end: of a single worker that has the slowest published network at least."""
        drawn = max(self.candidates - len(self.published), 0)
        return max((drawn * self.seconds + sum(self.published)) / self.workers, *self.published, 0.0)


@dataclass(frozen=True)
class Trying(Evaluate):
    """Judges a candidate as far as it takes to know how long judging it takes."""

    def _judged(self, candidate: Candidate) -> Judgement:
        """Seconds of what is done once, and of a step of training."""
        proxy = proxy_of(self.runner, candidate.arch)
        data = proxy_data(proxy, self.task)
        start = time.perf_counter()
        network = build(candidate.arch, classes=len(data.classes), drop_path=proxy.drop_path)
        for _ in self._measured(network):
            pass
        once = time.perf_counter() - start + (0.0 if candidate.known else self._asking(candidate.arch, data))
        plan = proxy.model_copy(update={"steps": max(proxy.steps, WARM + STEPS)})
        given = batches(data, plan, How(augments=proxy.augment), seed=0)
        learner = learner_of(network, data, plan, self.runner.device)
        for step in range(WARM):
            learn(learner, data, plan, step=step, seed=0, given=next(given))
        start = time.perf_counter()
        for step in range(WARM, WARM + STEPS):
            learn(learner, data, plan, step=step, seed=0, given=next(given))
        per_step = (time.perf_counter() - start) / STEPS
        start = time.perf_counter()
        validate(learner, data, proxy)
        return Judgement({"once": once + time.perf_counter() - start, "step": per_step})

    def _asking(self, arch: Arch, data: Dataset) -> float:
        """Seconds to ask a zero-cost proxy of a candidate's draws, where the driver does that on the same machine."""
        asked = untrained(self.runner, data)
        if asked is None or self.runner.engine.kind not in ("inline", "processes"):
            return 0.0
        start = time.perf_counter()
        asked(arch)
        return min(self.runner.search.draws, ASKED) * (time.perf_counter() - start)


def forecast(
    space: Space,
    runner: Runner,
    evaluate: Trying,
    cost_of: Callable[[Arch], Cost],
    *,
    budget: int | None,
    hours: float | None,
    on_timed: Callable[[Timed], object] = lambda timed: None,
) -> Forecast:
    """Time a small, a median and a large candidate on the runner's engine, all workers busy, and reckon from them.

    The space's candidates are drawn at random among those that keep the runner's limits on exact costs. A search's
    sampler draws others, smaller or larger ones: a running search shows what it finds itself. Its published networks
    are timed one by one, whatever they cost; one that cannot be judged here fails in a search, and takes no time.
    """
    samples, is_all = _drawn(space, runner, cost_of)
    chosen = [
        Sample(name, *samples[place])
        for name, place in (("small", 0), ("median", len(samples) // 2), ("large", len(samples) - 1))
    ]
    timed, published = [], []
    with _working(runner) as engine:
        for sample in chosen:
            timed.append(_timed(sample, engine, evaluate, min(engine.workers, MOST)))
            on_timed(timed[-1])
        for name, arch in space.known:
            with suppress(InputError):
                published.append(_timed(Sample(name, arch, cost_of(arch).flops), engine, evaluate, 1, is_known=True))
                on_timed(published[-1])
    shares = [_at(timed, flops) for _, flops in samples]
    seconds = statistics.fmean(once + step * steps_of(runner.proxy, runner.search.eta) for once, step in shares)
    in_full = tuple(one.once + one.step * steps_of(runner.proxy, 1.0) for one in published)
    known = {arch.digest() for _, arch in space.known}  # drawn, it would be nothing new
    holds = sum(arch.digest() not in known for arch, _ in samples) if is_all else None
    return Forecast((*timed, *published), engine.workers, seconds, budget, hours, in_full, holds)


@contextmanager
def _working(runner: Runner) -> Iterator[Workers]:
    """The runner's engine, with a folder for its files beside the studies, where a search would have them."""
    with TemporaryDirectory(prefix=".plan-", dir=".", ignore_cleanup_errors=True) as folder:
        setup = Setup((*PRELOAD, "hrsearch.planning"), prepare, Path(folder), runner.device == "cuda")
        engine = engine_of(runner.engine, setup)
        try:
            yield engine
        finally:
            engine.shutdown(cancel_futures=True)


def steps_of(proxy: Proxy, eta: float) -> float:
    """Steps of training that a candidate takes in the mean: all do the first rung, one in eta the second."""
    begins = (0, *map(trunk_of, proxy.ladder[:-1]))
    return sum((end - begin) / eta**rung for rung, (begin, end) in enumerate(zip(begins, proxy.ladder, strict=True)))


def lines_of(found: Forecast) -> Iterator[str]:
    """The forecast in words."""
    width = max([7, *(len(one.sample.name) for one in found.timed)])
    for one in found.timed:
        once = f"{one.once:5.1f} s to choose, build, time and validate"
        cost = f"{readable(one.sample.flops):>6} FLOPs"
        yield f"{one.sample.name:<{width}} {cost}: {once}, {one.step:.2f} s a step of training"
    workers = "1 worker" if found.workers == 1 else f"{found.workers} workers"
    yield f"a candidate in the mean: {found.seconds:.0f} s of one of {workers}"
    if found.published:
        yield f"published networks, first and in full: {sum(found.published):.0f} s"
    end = f"begun now it ends {datetime.now() + timedelta(seconds=found.end_s):%a %d %b, %H:%M}"
    if found.holds is not None and found.candidates == len(found.published) + found.holds:
        others = "other networks" if found.published else "networks"
        yield f"the space holds {found.holds} {others} within its limits, so that it ends with them"
    asked = (
        f"{found.hours:g} hours" if found.hours and found.candidates != found.budget else f"a budget of {found.budget}"
    )
    yield f"{asked}: about {found.candidates:,} candidates, {_hours(found.end_s)}; {end}"


def json_of(found: Forecast) -> dict[str, Any]:
    """The forecast for machines; seconds."""
    return {
        "timed": [
            {"name": one.sample.name, "flops": one.sample.flops, "once_s": one.once, "step_s": one.step}
            for one in found.timed
        ],
        "workers": found.workers,
        "candidate_s": found.seconds,
        "published_s": list(found.published),
        "budget": found.budget,
        "hours": found.hours,
        "candidates": found.candidates,
        "seconds": found.end_s,
    }


def _hours(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _drawn(space: Space, runner: Runner, cost_of: Callable[[Arch], Cost]) -> tuple[list[tuple[Arch, int]], bool]:
    """Networks of the space that keep the limits, by FLOPs, and whether these are as good as all that do: each was
    drawn several times. An InputError if hardly one does."""
    generator, refusal, kept = random.Random(0), "", 0
    found: dict[str, tuple[Arch, int]] = {}
    limits = [limit for limit in map(parse_limit, runner.search.limits) if limit.objective in ("flops", "params")]
    for _ in range(10 * DRAWS):
        if len(found) == DRAWS:
            break
        draw = space.draw(lambda knob: generator.choice(knob.values))
        if draw.arch is None:
            refusal = f"{draw.refused} does not hold"
            continue
        arch = draw.arch
        try:
            counted = cost_of(arch)
        except InputError as error:
            refusal = str(error)
            continue
        if all(limit.violation(getattr(counted, limit.objective)) <= 0 for limit in limits):
            found[arch.digest()] = (arch, counted.flops)
            kept += 1
    if not found and limits:
        raise NothingFits(f"no network of {10 * DRAWS:,} drawn keeps {', '.join(map(str, limits))}; loosen that")
    if not found:
        raise NothingFits(f"none of {10 * DRAWS:,} networks drawn can be trained, the last one: {refusal}")
    return sorted(found.values(), key=lambda one: one[1]), kept >= OFTEN * len(found)


def _timed(sample: Sample, engine: Workers, evaluate: Trying, copies: int, is_known: bool = False) -> Timed:
    """So many copies of the sample at once, so that it finds the machine as busy as a search makes it."""
    candidate = Candidate(0, sample.arch.digest(), sample.arch, 0, Path(), known=is_known)
    futures = [engine.submit(judged, evaluate, candidate) for _ in range(copies)]
    known = [result_of(future) for future in futures]
    failure = next((one["reason"] for one in known if "reason" in one), None)
    if failure:
        raise InputError(f"the {sample.name} candidate ({sample.arch.digest()}) failed: {failure}")
    means = (statistics.fmean(one[key] for one in known) for key in ("once", "step"))
    return Timed(sample, *means)


def _at(timed: Sequence[Timed], flops: int) -> tuple[float, float]:
    """Seconds once and per step of a candidate with these FLOPs, between the two timed ones that are nearest."""
    after = next((index for index, one in enumerate(timed) if one.sample.flops >= flops), len(timed) - 1)
    low, high = timed[max(after - 1, 0)], timed[after]
    span = high.sample.flops - low.sample.flops
    share = (flops - low.sample.flops) / span if span else 0.0
    return low.once + share * (high.once - low.once), low.step + share * (high.step - low.step)
