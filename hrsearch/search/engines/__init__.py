"""Where candidates are judged. An engine is a `concurrent.futures.Executor` that the registry WORKERS makes.

Adding another is one file, imported here or brought by a plug-in, which registers what makes it of a `Setup`, the
workers and the seconds that a candidate may take; keyword-only parameters are the options of a runner that it knows.

A future of an engine never breaks the search: a worker that dies or takes too long gives CandidateFailed.
"""

from collections.abc import Mapping

from hrsearch.errors import InputError
from hrsearch.registry import WORKERS
from hrsearch.runner import Engine
from hrsearch.search.engines.inline import Inline
from hrsearch.search.engines.processes import Processes, cores, visible_gpus
from hrsearch.search.engines.setup import Setup, Workers


def engine_of(engine: Engine, setup: Setup) -> Workers:
    """The engine that a runner asks for."""
    options = {name: getattr(engine, name) for name in WORKERS.options(engine.kind)}
    made: Workers = WORKERS[engine.kind](setup, engine.workers, engine.timeout_s, **options)
    return made


@WORKERS.add("inline")
def _inline(setup: Setup, workers: int, timeout_s: float) -> Workers:
    return Inline()


@WORKERS.add("processes")
def _processes(setup: Setup, workers: int, timeout_s: float) -> Workers:
    gpus = visible_gpus() if setup.cuda else []
    count = workers or (len(gpus) or 1 if setup.cuda else cores())
    return Processes(count, timeout_s, setup.preload, setup.prepare, gpus)


@WORKERS.add("ray")
def _ray(
    setup: Setup, workers: int, timeout_s: float, *, address: str | None, cpus: float, gpus: float | None
) -> Workers:
    try:
        from hrsearch.search.engines.ray import Ray
    except ModuleNotFoundError:
        raise InputError("engine.kind ray: needs Ray; pip install 'hrsearch[ray]'") from None
    return Ray(address, workers, (cpus, _gpus(gpus, setup)), timeout_s, setup)


@WORKERS.add("slurm")
def _slurm(
    setup: Setup,
    workers: int,
    timeout_s: float,
    *,
    cpus: float,
    gpus: float | None,
    cluster: str,
    options: Mapping[str, str | int | float | bool],
) -> Workers:
    try:
        from hrsearch.search.engines.slurm import Slurm
    except ModuleNotFoundError:
        raise InputError("engine.kind slurm: needs submitit; pip install 'hrsearch[slurm]'") from None
    whole = int(_gpus(gpus, setup))
    cost = {"cpus_per_task": int(cpus)} | ({"gpus_per_node": whole} if whole else {})
    return Slurm(cluster, workers, timeout_s, {**cost, **options}, setup)


def _gpus(gpus: float | None, setup: Setup) -> float:
    """GPUs of one candidate: one by default where candidates are judged on GPUs."""
    return float(setup.cuda) if gpus is None else gpus
