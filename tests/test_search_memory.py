"""Out of memory: a real allocation that fails, and what samplers learn from it."""

import errno
import resource
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import TrialState
from test_cli import SPACE
from toy_search import cost_of, judgement, search, states_of

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed, OutOfMemory
from hrsearch.evaluate import Evaluate
from hrsearch.objective import OBJECTIVES
from hrsearch.proxy import proxy_data
from hrsearch.report.words import outcomes
from hrsearch.runner import Runner
from hrsearch.search import samplers
from hrsearch.search.engines.processes import Processes
from hrsearch.search.judging import failed_by, judged
from hrsearch.search.ledger import open_ledger
from hrsearch.search.proposals import view_of
from hrsearch.space import Space
from hrsearch.storage import storage_of
from hrsearch.study import read_study

DIRECTIONS = ["maximize", "minimize", "minimize"]


def limit_memory(megabytes: int = 100) -> None:
    """This process may take so much more than it has."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (megabytes << 20), resource.RLIM_INFINITY))


@pytest.mark.parametrize("where", ["measure", pytest.param("proxy", marks=pytest.mark.long)])
def test_a_network_too_large_for_its_worker_ran_out_of_memory(where: str, tmp_path: Path) -> None:
    """Torch's own allocation fails, in a worker whose address space is limited, in the timing or in the training."""
    plain: dict[str, dict[str, Any]] = {
        "proxy": {"image": 32, "batch": 8, "steps": 4, "warmup": 1, "train_images": 64, "val_images": 16},
        "measure": {"image": [64, 64], "seconds": 0.1},
    }
    plain[where] |= {"image": [2048, 2048]} if where == "measure" else {"image": 256, "batch": 64}
    _, arch = Space.parse(SPACE).sample(seed=0)
    candidate = Candidate(0, arch.digest(), arch, 0, tmp_path)
    runner = Runner.model_validate(plain)
    proxy_data(runner.proxy, "segment")  # a driver has made it before a worker asks for it
    engine = Processes(1, 200.0, ["hrsearch.evaluate"], prepare=limit_memory)
    found = engine.submit(judged, Evaluate(runner, reference_ms=1.0), candidate).result()
    engine.shutdown()
    assert found.attributes["outcome"] == "failed", found
    assert found.attributes["reason"].startswith("out of memory (")
    assert found.attributes["violations"] == {"memory": 1.0}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory ([Errno 12] Cannot allocate memory)"),
        (RuntimeError("in a kernel\nCUDA out of memory. Tried\nmore"), "out of memory (CUDA out of memory. Tried)"),
        (RuntimeError("std::bad_alloc"), "out of memory (std::bad_alloc)"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when"), "out of memory (CUDA error: CUBLAS_STATUS_ALLOC"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory (x.so: failed to map segment"),
        (OSError("x.so: failed to map segment from shared object"), "out of memory (x.so: failed to map segment"),
        (ImportError("x.so: failed to map segment from shared object: Operation not permitted"), "ImportError: x.so"),
        (RuntimeError("cannot allocate an object of abstract type"), "RuntimeError: cannot allocate"),
        (ImportError("libgomp.so.1: cannot allocate memory in static TLS block"), "ImportError: libgomp.so.1"),
        (OSError(errno.ENOENT, "out of memory.png"), "FileNotFoundError: [Errno 2]"),
        (RuntimeError("no kernel"), "RuntimeError: no kernel"),
        (CandidateFailed("the loss is nan"), "the loss is nan"),
        (OutOfMemory("out of memory (job 7)"), "out of memory (job 7)"),
    ],
)
def test_what_ran_out_of_memory_is_known_by_what_it_says(error: Exception, reason: str) -> None:
    found = failed_by(error).attributes
    assert found["reason"].startswith(reason)
    assert ("violations" in found) == reason.startswith("out of memory")


def test_data_that_cannot_be_mapped_are_not_called_damaged(tmp_path: Path) -> None:
    """In a worker that has next to no memory left, the candidate fails; the search goes on, and nothing is removed."""
    candidate = Candidate(0, "0", Space.parse(SPACE).sample(seed=0)[1], 0, tmp_path)
    plan = {"image": 256, "train_images": 64, "val_images": 16}
    runner = Runner.model_validate({"proxy": {**plan, "steps": 4, "warmup": 1}, "measure": {"seconds": 0.1}})
    proxy_data(runner.proxy, "segment")
    engine = Processes(1, 200.0, ["hrsearch.evaluate"], prepare=partial(limit_memory, 1))
    found = engine.submit(judged, Evaluate(runner, reference_ms=1.0), candidate).result()
    engine.shutdown()
    assert found.attributes["outcome"] == "failed", found
    assert found.attributes["reason"].startswith("out of memory ([Errno 12]")


def large_runs_out(candidate: Candidate) -> Judgement:
    """The toy's candidate, if it is not too large for this machine."""
    if cost_of(candidate.arch).flops > 2e8:
        raise OutOfMemory("out of memory (DefaultCPUAllocator: tried to allocate 123 bytes)")
    return judgement(candidate)


def large_fails(candidate: Candidate) -> Judgement:
    """The same, but nobody knows why it fails: samplers are told nothing of it."""
    try:
        return large_runs_out(candidate)
    except OutOfMemory:
        raise CandidateFailed("no reason") from None


def failures(folder: Path, evaluate: Any, **settings: Any) -> int:
    """How many candidates fail once the sampler has begun to learn."""
    search(folder, 40, evaluate, objectives=("score", "flops"), **settings)
    judged = [trial.state for trial in read_study(folder).trials if trial.state != "refused"]
    return judged[samplers.STARTUP :].count("failed")


def test_tpe_learns_what_does_not_fit(tmp_path: Path) -> None:
    learnt, blind = failures(tmp_path / "learnt", large_runs_out), failures(tmp_path / "blind", large_fails)
    assert learnt < 0.75 * blind  # 8 and 21 when this was written
    reasons = [one.reason for one in outcomes(read_study(tmp_path / "learnt")) if one.state == "failed"]
    assert reasons == ["out of memory"]


@pytest.mark.long
def test_draws_are_weighed_by_whether_they_will_fit(tmp_path: Path) -> None:
    """As the runners that come along search; two seeds, for one tells little."""
    counts = {"learnt": 0, "blind": 0}
    for seed in range(2):
        for name, evaluate in (("learnt", large_runs_out), ("blind", large_fails)):
            counts[name] += failures(tmp_path / f"{name}{seed}", evaluate, sampler="evolve", draws=16, seed=seed)
    assert counts["learnt"] < 0.75 * counts["blind"]  # 10 and 17 when this was written


@pytest.mark.parametrize(
    "sampler", [GPSampler(seed=0, n_startup_trials=4), NSGAIISampler(seed=0, population_size=4), TPESampler(seed=0)]
)
def test_every_sampler_sees_the_same_constraints_of_each(sampler: BaseSampler, tmp_path: Path) -> None:
    """The view that samplers learn from: what ran out of memory is complete, infeasible, and as bad as the worst."""
    folder = tmp_path / "toy"
    search(folder, 14, large_runs_out, sampler="random", limits=("latency<=60ms", "flops<=1G"))
    assert states_of(folder)["failed"] >= 2
    trials = open_ledger(folder, tuple(OBJECTIVES[name] for name in ("score", "flops", "latency")), {}).trials()
    short = {trial.number for trial in trials if trial.user_attrs.get("outcome") == "failed"}
    assert all(trial.state == TrialState.PRUNED for trial in trials if trial.number in short)
    view = view_of(trials, DIRECTIONS)
    complete = view.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert short < {trial.number for trial in complete}
    assert {tuple(trial.constraints) for trial in complete} == {("memory",)}  # limits: what breaks one has no values
    worst = [
        (min if side == "maximize" else max)(trial.values[place] for trial in complete if trial.number not in short)
        for place, side in enumerate(DIRECTIONS)
    ]
    for trial in complete:
        assert (trial.constraints["memory"] > 0) == (trial.number in short)
        assert trial.number not in short or trial.values == worst
    view.sampler = sampler
    names = {name: trial for trial in complete for name in trial.params}
    asked = view.ask({name: trial.distributions[name] for name, trial in names.items()})
    assert asked.params.keys() == names.keys()
    assert not any(trial.constraints.get("memory") for trial in trials if trial.number not in short)  # ledger untouched


def test_plain_optuna_learns_from_it_too(tmp_path: Path) -> None:
    search(tmp_path / "toy", 12, large_runs_out, sampler="random")
    study = optuna.load_study(study_name="toy", storage=storage_of(tmp_path / "toy"))
    infeasible = [trial for trial in study.get_trials(states=(TrialState.PRUNED,)) if "memory" in trial.constraints]
    assert len(infeasible) == states_of(tmp_path / "toy")["failed"]
    assert not {trial.number for trial in study.best_trials} & {trial.number for trial in infeasible}
