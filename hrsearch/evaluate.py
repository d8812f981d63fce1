"""Judges one candidate: builds it, measures it at the deployment size, trains it on the proxy. Runs in a worker."""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from hrsearch.arch import Arch, by_place
from hrsearch.build import Network, build
from hrsearch.candidate import Candidate, Judgement, checkpoint_path, seed_of, weights_path
from hrsearch.cost import bill_of, device_of, measure, peak_memory
from hrsearch.errors import InputError, NothingToJudgeOn
from hrsearch.objective import OBJECTIVES, Limit, parse_limit
from hrsearch.plugins import load_plugins
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.data import Dataset
from hrsearch.proxy.inheritance import inherit
from hrsearch.proxy.learning import memory_watched
from hrsearch.proxy.zero import probe_of
from hrsearch.registry import ZERO_COST
from hrsearch.runner import Proxy, Runner, proxy_of

# What workers have at hand. To make an optimiser imports torch's compiler, which took a second of each candidate.
PRELOAD = ("hrsearch.evaluate", "torch._dynamo")


@dataclass(frozen=True)
class Evaluate:
    """How a runner judges candidates: call it with one."""

    runner: Runner
    reference_ms: float  # the reference network's time to which latencies are scaled
    task: str = "segment"
    plugins: tuple[Path, ...] = ()  # files of code that the networks need
    split: str = ""  # hash of the data that the study began with; none: any data will do

    def __call__(self, candidate: Candidate) -> Judgement:
        """Memory and latency first: they are cheap, and a limit on them saves the training."""
        torch.set_num_threads(self.runner.measure.threads)
        load_plugins(self.plugins)
        with memory_watched():
            return self._judged(candidate)

    def _judged(self, candidate: Candidate) -> Judgement:
        proxy, device = proxy_of(self.runner, candidate.arch), self.runner.device
        data = self._data()
        torch.manual_seed(candidate.seed)
        network = build(candidate.arch, classes=len(data.classes), drop_path=proxy.drop_path)
        known: dict[str, Any] = {}
        for measured in self._measured(network) if candidate.rung == 0 else ():  # a later rung knows it already
            known |= measured
            broken = None if candidate.known else self._broken(known)
            if broken:
                return Judgement(known | {"outcome": "refused", "reason": f"{broken} does not hold"})
        if candidate.relative is not None and proxy.ladder[candidate.rung]:  # a screen judges untrained weights
            # At a later rung the checkpoint replaces what is inherited.
            inherit(network, weights_path(candidate.folder, candidate.relative))
        checkpoint = checkpoint_path(candidate.folder, candidate.number) if len(proxy.ladder) > 1 else None
        score = train_proxy(
            network, data, proxy, seed=candidate.seed, device=device, rung=candidate.rung, checkpoint=checkpoint
        )
        if candidate.rung == len(proxy.ladder) - 1:
            write_weights(weights_path(candidate.folder, candidate.number), network, data)
        return Judgement(known | {"score": asdict(score), "outcome": "trained"})

    def _data(self) -> Dataset:
        """The data, which must be what the other candidates were judged on: scores on others cannot be compared."""
        name = self.runner.proxy.data
        try:
            data = _data(self.runner.proxy, self.task)
        except InputError as error:
            raise NothingToJudgeOn(str(error)) from None
        if self.split and data.split != self.split:
            raise NothingToJudgeOn(
                f"data {name!r} has changed since the search began, and scores on it would not compare; put it back "
                "and give the same command again, or begin a study of another --name"
            )
        return data

    def _measured(self, network: Network) -> Iterator[dict[str, Any]]:
        """Attributes that are known before training, the cheapest first; memory only where it is asked for."""
        how, asked = self.runner.measure, self._asked()
        image = network.arch.image or how.image
        if "memory" in asked:
            yield {"memory": asdict(peak_memory(network, image, how.batch, device=device_of(how.engine)))}
        if "training_memory" in asked:
            found = peak_memory(network, image, how.batch, training=True, device=self.runner.device)
            yield {"training_memory": asdict(found)}
        yield self._timed(network, image)

    def _asked(self) -> set[str]:
        """The objectives that the runner judges or limits by."""
        search = self.runner.search
        return {*search.objectives, *(parse_limit(text).objective for text in search.limits)}

    def _timed(self, network: Network, image: tuple[int, int]) -> dict[str, Any]:
        """The latency and, where the engine runs part after part, the bill of it."""
        how = self.runner.measure
        settings = {"batch": how.batch, "threads": how.threads}
        latency = measure(network, image, how.engine, seconds=how.seconds, reference_ms=self.reference_ms, **settings)
        known: dict[str, Any] = {"latency": asdict(latency)}
        if how.engine == "eager":
            paid = bill_of(network, image, seconds=how.seconds / 10, **settings)
            spent = paid.scaled_to(latency.median_ms).by_path
            known["part_ms"] = [round(each, 4) for each in spent.values()]
            known["ms_by_place"] = {place: round(each, 4) for place, each in by_place(network.arch, spent).items()}
        return known

    def _broken(self, known: dict[str, Any]) -> Limit | None:
        """The first limit that what is known so far breaks."""
        for limit in map(parse_limit, self.runner.search.limits):
            value = OBJECTIVES[limit.objective].of(known)
            if value is not None and limit.violation(value) > 0:
                return limit
        return None


@lru_cache(maxsize=2)
def _data(proxy: Proxy, task: str) -> Dataset:
    """Looked up once a worker: the many files of a person's own data need not be listed again for each candidate."""
    return proxy_data(proxy, task)


def untrained(runner: Runner, data: Dataset) -> Callable[[Arch], float | None] | None:
    """What says of a network, before it is trained, what the runner's `zero_cost` proxy does; None if none is asked.

    What it says is None where the value is not finite, and where the network cannot be asked, which is warned of once.
    What was asked is remembered.
    """
    kind = runner.search.zero_cost
    if kind is None or "score" not in runner.search.objectives:  # of costs it says nothing
        return None
    said: dict[str, float | None] = {}
    probe = lru_cache(maxsize=4)(lambda proxy: probe_of(data, proxy, runner.search.seed))
    probe(runner.proxy)

    def of(arch: Arch) -> float | None:
        digest = arch.digest()
        if digest not in said:
            try:
                said[digest] = asked(arch, seed_of(runner.search.seed, digest))
            except Exception as error:  # one network must not end a search: judging it will say what is wrong with it
                warnings.warn(f"{kind} cannot be asked: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=2)
                said[digest] = None
        return said[digest]

    def asked(arch: Arch, seed: int) -> float | None:
        proxy = proxy_of(runner, arch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = build(arch, classes=len(data.classes), drop_path=proxy.drop_path)
            value = float(ZERO_COST[kind](network, probe(proxy)))
        return value if math.isfinite(value) else None

    return of


def prepare() -> None:
    """What every worker does first: one thread."""
    torch.set_num_threads(1)
