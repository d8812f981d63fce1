"""Where candidates are judged. An engine is a `concurrent.futures.Executor`; adding another is one file and one entry.

A future of an engine never breaks the search: a worker that dies or takes too long gives CandidateFailed.
"""

from collections.abc import Callable

from hrsearch.errors import InputError
from hrsearch.runner import Engine
from hrsearch.search.engines.inline import Inline
from hrsearch.search.engines.processes import Processes, cores, visible_gpus
from hrsearch.search.engines.setup import Setup, Workers


def _inline(engine: Engine, setup: Setup) -> Workers:
    return Inline()


def _processes(engine: Engine, setup: Setup) -> Workers:
    gpus = visible_gpus() if setup.cuda else []
    workers = engine.workers or (len(gpus) or 1 if setup.cuda else cores())
    return Processes(workers, engine.timeout_s, setup.preload, setup.prepare, gpus)


def _ray(engine: Engine, setup: Setup) -> Workers:
    try:
        from hrsearch.search.engines.ray import Ray
    except ModuleNotFoundError:
        raise InputError("engine.kind ray: needs Ray; pip install 'hrsearch[ray]'") from None
    return Ray(engine.address, engine.workers, (engine.cpus, _gpus(engine, setup)), engine.timeout_s, setup)


def _slurm(engine: Engine, setup: Setup) -> Workers:
    try:
        from hrsearch.search.engines.slurm import Slurm
    except ModuleNotFoundError:
        raise InputError("engine.kind slurm: needs submitit; pip install 'hrsearch[slurm]'") from None
    gpus = _gpus(engine, setup)
    cost = {"cpus_per_task": int(engine.cpus)} | ({"gpus_per_node": int(gpus)} if gpus else {})
    return Slurm(engine.cluster, engine.workers, engine.timeout_s, {**cost, **engine.options}, setup)


def _gpus(engine: Engine, setup: Setup) -> float:
    """GPUs of one candidate: one by default where candidates are judged on GPUs."""
    return float(setup.cuda) if engine.gpus is None else engine.gpus


ENGINES: dict[str, Callable[[Engine, Setup], Workers]] = {
    "inline": _inline,
    "processes": _processes,
    "ray": _ray,
    "slurm": _slurm,
}


def engine_of(engine: Engine, setup: Setup) -> Workers:
    """The engine that a runner asks for."""
    return ENGINES[engine.kind](engine, setup)
