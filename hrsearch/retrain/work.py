"""Runs in the runner's engine: trains a network of a study again, or judges it untrained."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hrsearch.arch import Arch
from hrsearch.build import Network, build
from hrsearch.candidate import Candidate, Judgement, seed_of, weights_path
from hrsearch.errors import CandidateFailed, InputError, is_disk_full
from hrsearch.evaluate import PRELOAD, prepare
from hrsearch.plugins import load_plugins
from hrsearch.proxy import train_proxy
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.data import Dataset, is_made, load_dataset
from hrsearch.proxy.data.split import SplitName
from hrsearch.proxy.zero import probe_of
from hrsearch.registry import ZERO_COST
from hrsearch.runner import LONGEST_S, Proxy, Runner, proxy_of
from hrsearch.search.engines import engine_of
from hrsearch.search.engines.setup import Setup
from hrsearch.search.judging import failed, judged, raise_unjudged
from hrsearch.search.ledger import noting
from hrsearch.search.room import Reserve
from hrsearch.study import Record, Trial
from hrsearch.trust.repeats import key_of


@dataclass(frozen=True)
class Job:
    """A training of a trial, and the attribute that keeps its score."""

    trial: Trial
    key: str
    candidate: Candidate


@dataclass(frozen=True)
class Done:
    """A job and what came of it; and how many are done of how many."""

    trial: Trial
    key: str
    result: Mapping[str, Any]  # a score, or the reason why there is none
    done: int
    total: int


@dataclass(frozen=True)
class Retraining:
    """How networks are trained again: call it with a candidate. If it `keeps`, the weights stay in its folder."""

    runner: Runner
    task: str
    plugins: tuple[Path, ...] = ()
    split: SplitName = "proxy"
    keeps: bool = False
    data: str = ""  # hash of the data that is there now

    def __call__(self, candidate: Candidate) -> Judgement:
        """The score of the proxy's schedule, whatever its length."""
        proxy, data, network = self._begun(candidate)
        score = train_proxy(network, data, proxy, seed=candidate.seed, device=self.runner.device)
        if self.keeps:
            path = weights_path(candidate.folder, candidate.number)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_weights(path, network, data)
        return Judgement({**asdict(score), "split": self.split, "data": data.split})

    def _begun(self, candidate: Candidate) -> tuple[Proxy, Dataset, Network]:
        torch.set_num_threads(self.runner.measure.threads)
        load_plugins(self.plugins)
        proxy = proxy_of(self.runner, candidate.arch)
        data = _data(self.runner.proxy, self.task, self.split, self.data)
        torch.manual_seed(candidate.seed)
        return proxy, data, build(candidate.arch, classes=len(data.classes), drop_path=proxy.drop_path)


@dataclass(frozen=True)
class Untrained(Retraining):
    """What a zero-cost proxy says of an untrained network."""

    kind: str = "synflow"

    def __call__(self, candidate: Candidate) -> Judgement:
        """The value, None where it is not finite."""
        proxy, data, network = self._begun(candidate)
        value = float(ZERO_COST[self.kind](network, probe_of(data, proxy, candidate.seed)))
        return Judgement({"value": value if torch.isfinite(torch.tensor(value)) else None})


def retraining_of(record: Record, times: int, *, split: SplitName = "proxy", keeps: bool = False) -> Retraining:
    """How the study's networks are trained for that many times the proxy's steps.

    An InputError if the data is no longer that of the search: the scores could not be compared.
    """
    runner = runner_of(record)
    if not is_made(runner.proxy.data) and not Path(runner.proxy.data).is_dir():
        raise InputError(
            f"data {runner.proxy.data!r} of study {record.name!r} does not lie here ({Path.cwd()}); give the command "
            "in the folder where the search was begun"
        )
    now, then = _looked_up(runner.proxy, record.task, "proxy").split, record.attributes.get("split")
    if then is not None and now != then:
        raise InputError(f"data {runner.proxy.data!r} is not what study {record.name!r} was searched on any more")
    steps = {"steps": times * runner.proxy.steps, "rungs": ()}
    engine = runner.engine.model_copy(update={"timeout_s": min(times * runner.engine.timeout_s, LONGEST_S)})
    longer = runner.model_copy(update={"proxy": runner.proxy.model_copy(update=steps), "engine": engine})
    data = now if split == "proxy" else _looked_up(runner.proxy, record.task, split).split
    return Retraining(longer, record.task, plugins_of(record), split, keeps, data)


def plugins_of(record: Record) -> tuple[Path, ...]:
    """Files of code that the study's networks need."""
    return tuple(Path(path) for path in record.attributes.get("plugins") or ())


def runner_of(record: Record) -> Runner:
    """The study's runner; an InputError where it was made by another version of this program."""
    load_plugins(plugins_of(record))  # the engine may be one of theirs
    try:
        return Runner.model_validate(record.attributes["runner"])
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"study {record.name!r} was made by another hrsearch: it does not know {key}") from None


def job_of(
    record: Record, trial: Trial, kind: str, length: int | str, seed: int | None = None, folder: Path | None = None
) -> Job:
    """The job whose attribute `key_of` names; its seed is none that the search has used."""
    key = key_of(kind, length, trial.number, seed)
    arch, digest = Arch.from_dict(trial.attributes["arch"]), str(trial.attributes["digest"])
    number = seed_of(record.attributes.get("seed", 0), digest, kind, length, seed)
    return Job(trial, key, Candidate(trial.number, digest, arch, number, folder or record.folder))


def done_jobs(
    record: Record, how: Retraining, jobs: Iterable[Job], on_done: Callable[[Done], None]
) -> dict[str, Mapping[str, Any]]:
    """What comes of the jobs, by their attributes, in which it stands as soon as it is known.

    What stands there already is not done again; what failed, or was validated on other images, is. A full disk is an
    OSError, and what ended is kept.
    """
    asked = list(jobs)
    known = {job.key: record.attributes[job.key] for job in asked if _is_known(record.attributes.get(job.key, {}), how)}
    note, reserve = noting(record.folder), Reserve(record.folder)
    reserve.take()
    for job, result in _results(record.folder, how, [job for job in asked if job.key not in known]):
        try:
            note({job.key: result})
        except OSError as error:
            if is_disk_full(error):  # into the room that is held back for it
                reserve.release()
                note({job.key: result})
            raise
        known[job.key] = result
        on_done(Done(job.trial, job.key, result, len(known), len(asked)))
    return known


def _is_known(found: Mapping[str, Any], how: Retraining) -> bool:
    """Whether it is a score of these images; one of an older study, which does not say of which, is."""
    same = found.get("split", how.split) == how.split and found.get("data", how.data) == how.data
    return "value" in found and same


def _results(folder: Path, how: Retraining, jobs: list[Job]) -> Iterator[tuple[Job, Mapping[str, Any]]]:
    """As they come: no more are under way than there are workers, so that little is lost when this ends early."""
    if not jobs:
        return
    setup = Setup((*PRELOAD, "hrsearch.retrain.work"), prepare, folder, how.runner.device == "cuda")
    engine = engine_of(how.runner.engine, setup)
    left, flights = iter(jobs), dict[Future[Judgement], Job]()
    try:
        while True:
            for job in islice(left, engine.workers - len(flights)):
                flights[engine.submit(judged, how, job.candidate)] = job
            if not flights:
                return
            done, _ = wait(flights, return_when=FIRST_COMPLETED)
            for future in done:
                yield flights.pop(future), _result(future)
    finally:
        engine.shutdown(cancel_futures=True)


def _result(future: Future[Judgement]) -> Mapping[str, Any]:
    """A score, or the reason why there is none; an OSError if the worker found the disk full."""
    try:
        found = future.result().attributes
    except CandidateFailed as error:
        found = failed(str(error)).attributes
    raise_unjudged(found)
    return {"reason": found["reason"]} if "reason" in found else found


def _looked_up(proxy: Proxy, task: str, split: SplitName) -> Dataset:
    sizes = {"image": proxy.image, "train_images": proxy.train_images, "val_images": proxy.val_images}
    return load_dataset(proxy.data, **sizes, task=task, split=split).flipped_if(proxy.mirrors)


@lru_cache(maxsize=2)
def _data(proxy: Proxy, task: str, split: SplitName, digest: str) -> Dataset:
    """Looked up once a worker, and again where its hash is another."""
    return _looked_up(proxy, task, split)
