"""Judges one candidate: builds it, times it at the deployment size, trains it on the proxy. Runs in a worker."""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from hrsearch.build import Network, build
from hrsearch.candidate import Candidate, Judgement, weights_path
from hrsearch.cost import measure
from hrsearch.errors import CandidateFailed
from hrsearch.objective import Limit, parse_limit
from hrsearch.plugins import load_plugins
from hrsearch.proxy import proxy_data, train_proxy
from hrsearch.proxy.data import Dataset
from hrsearch.runner import Proxy, Runner, proxy_of


@dataclass(frozen=True)
class Evaluate:
    """How a runner judges candidates: call it with one."""

    runner: Runner
    reference_ms: float  # the reference network's time to which latencies are scaled
    task: str = "segment"
    plugins: tuple[Path, ...] = ()  # files of code that the networks need

    def __call__(self, candidate: Candidate) -> Judgement:
        """Latency first: it is cheap, and a limit on it saves the training."""
        torch.set_num_threads(self.runner.measure.threads)
        load_plugins(self.plugins)
        try:
            return self._judged(candidate)
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise CandidateFailed(f"out of memory ({error})".splitlines()[0]) from None

    def _judged(self, candidate: Candidate) -> Judgement:
        proxy, device = proxy_of(self.runner, candidate.arch), self.runner.device
        data = _data(self.runner.proxy, self.task)
        torch.manual_seed(candidate.seed)
        network = build(candidate.arch, classes=len(data.classes), drop_path=proxy.drop_path)
        known: dict[str, Any] = {"latency": asdict(self._latency(network))}
        broken = None if candidate.known else self._broken(known)
        if broken:
            return Judgement(known | {"outcome": "refused", "reason": f"{broken} does not hold"})
        score = train_proxy(network, data, proxy, seed=candidate.seed, device=device)
        _save(network, weights_path(candidate.folder, candidate.number))
        return Judgement(known | {"score": asdict(score), "outcome": "trained"})

    def _latency(self, network: Network) -> Any:
        how = self.runner.measure
        return measure(
            network,
            network.arch.image or how.image,
            how.engine,
            batch=how.batch,
            threads=how.threads,
            seconds=how.seconds,
            reference_ms=self.reference_ms,
        )

    def _broken(self, known: dict[str, Any]) -> Limit | None:
        limits = [parse_limit(text) for text in self.runner.search.limits]
        on_latency = [limit for limit in limits if limit.objective == "latency"]
        return next((one for one in on_latency if one.violation(known["latency"]["median_ms"]) > 0), None)


@lru_cache(maxsize=2)
def _data(proxy: Proxy, task: str) -> Dataset:
    """Looked up once a worker: the many files of a person's own data need not be listed again for each candidate."""
    return proxy_data(proxy, task)


def _save(network: Network, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}, partial)
    partial.replace(path)  # a kill in mid-write leaves no half file under the final name


def prepare() -> None:
    """What every worker does first: one thread, and out-of-memory as an exception where the system allows it."""
    torch.set_num_threads(1)
