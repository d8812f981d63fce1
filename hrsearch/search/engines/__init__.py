"""Where candidates are judged. An engine is a `concurrent.futures.Executor`; adding another is one file and one entry.

A future of an engine never breaks the search: a worker that dies or takes too long gives CandidateFailed.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from hrsearch.runner import Engine
from hrsearch.search.engines.inline import Inline
from hrsearch.search.engines.processes import Processes

Prepare = Callable[[], None]


def _inline(engine: Engine, preload: Sequence[str], prepare: Prepare | None) -> Executor:
    return Inline()


def _processes(engine: Engine, preload: Sequence[str], prepare: Prepare | None) -> Executor:
    return Processes(workers_of(engine), engine.timeout_s, preload, prepare)


ENGINES: dict[str, Callable[[Engine, Sequence[str], Prepare | None], Executor]] = {
    "inline": _inline,
    "processes": _processes,
}


def engine_of(engine: Engine, preload: Sequence[str] = (), prepare: Prepare | None = None) -> Executor:
    """The engine that a runner asks for.

    `preload` names modules that every worker has at hand without importing them; `prepare` is run in a worker before
    anything else and must pickle.
    """
    return ENGINES[engine.kind](engine, preload, prepare)


def workers_of(engine: Engine) -> int:
    """How many candidates are judged at a time; 0 in the runner stands for one per core that this process may use."""
    if engine.kind == "inline":
        return 1
    return engine.workers or len(os.sched_getaffinity(0))
