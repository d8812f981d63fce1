"""A made-up study with every documented attribute: plausible figures, no network is built and nothing is trained."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from hrsearch.arch import Arch, Branch, Part, Stage
from hrsearch.objective import Latency, Memory, Score, objective_of
from hrsearch.runner import Proxy, Runner
from hrsearch.storage import storage_of
from hrsearch.study import Record, trial_of

LIMIT = "flops<=7G"
START = datetime(2026, 3, 1, 9)
KNOBS: dict[str, list[int]] = {
    "width1": [16, 24, 32, 48],
    "width2": [32, 48, 64, 96],
    "depth3": [2, 4, 6, 8],
    "window3": [3, 5, 7],
    "ratio3": [2, 3, 4],
}
HRVIT_B1 = {"width1": 32, "width2": 64, "depth3": 6, "window3": 7, "ratio3": 4}
SPACE = "task: segment\nknown: [hrvit_b1]\nknobs:\n  width1: [16, 24, 32, 48]\n"


def example_record(
    trained: int = 24,
    *,
    known: Sequence[str] = ("hrvit_b1",),
    refused: int = 0,
    failed: int = 0,
    running: int = 0,
    lost: int = 0,
    objectives: Sequence[str] = ("score", "flops", "latency"),
    seed: int = 0,
    folder: Path = Path("studies/example"),
    rungs: bool = False,
) -> Record:
    """A study with so many trials of each kind, the published networks (among the trained) first.

    With `rungs` as many candidates as were trained were let go at the first of three.
    """
    random_numbers = random.Random(seed)
    outcomes = ["trained"] * (trained - len(known[:trained]))
    outcomes += ["stopped"] * (trained if rungs else 0)
    outcomes += ["refused"] * refused + ["failed"] * failed + ["running"] * running + ["lost"] * lost
    random_numbers.shuffle(outcomes)
    trials = [_trained(HRVIT_B1, random_numbers, objectives, known=name) for name in known[:trained]]
    trials += [_drawn(outcome, random_numbers, objectives) for outcome in outcomes]
    for number, trial in enumerate(trials):
        trial.number = number
    columns = tuple(objective_of(name) for name in objectives)
    if rungs:
        for trial in trials:
            _add_rungs(trial)
    return Record(folder.name, folder, attributes(objectives), tuple(trial_of(trial, columns) for trial in trials))


def store(record: Record) -> Path:
    """Write the study to its folder as a search does, and return the folder."""
    record.folder.mkdir(parents=True, exist_ok=True)  # it may point to a database
    study = optuna.create_study(
        study_name=record.folder.name,
        storage=storage_of(record.folder),
        directions=[objective.direction for objective in record.objectives],
    )
    for key, value in record.attributes.items():
        study.set_user_attr(key, value)
    for trial in record.trials:
        values = [float(value or 0.0) for value in trial.values] if trial.state == "trained" else None
        study.add_trial(_frozen(trial.state, dict(trial.knobs), dict(trial.attributes), values))
    return record.folder


def attributes(objectives: Sequence[str]) -> dict[str, Any]:
    """The study's own attributes."""
    runner = Runner(proxy=Proxy(image=64, batch=32, steps=300)).model_dump(mode="json")
    runner["search"] |= {"objectives": list(objectives), "limits": [LIMIT]}
    return {
        "space": SPACE,
        "space_path": "spaces/hrvit.yaml",
        "task": "segment",
        "classes": ["background", *map(str, range(10))],
        "runner": runner,
        "objectives": list(objectives),
        "limits": [LIMIT],
        "seed": 0,
        "protocol": "5f0c3a9be1d24470",
        "split": "a1b2c3d4e5f60718",
        "reference_ms": 12.5,
        "versions": {"hrsearch": "0.1.0", "python": "3.11.9", "torch": "2.13.0", "optuna": "5.0.0"},
        "machine": {"system": "Linux-6.1", "processor": "AMD EPYC 7B13", "cores": 2, "memory_gib": 7.8},
        "budget": 200,
    }


def example_arch(knobs: dict[str, int]) -> Arch:
    """An HRViT-like network with these knobs."""
    widths = [knobs["width1"], knobs["width2"], knobs["width2"] * 2, knobs["width2"] * 4]
    stages = [Stage(Part.of("conv_stem", {}), (Branch(64, 4),))]
    for count in (1, 2, 3, 3, 4, 4):
        blocks = [_block(index, knobs) for index in range(count)]
        depths = [1, 1, knobs["depth3"], 2][:count]
        branches = (
            Branch(widths[i], 4 * 2**i, depth, block, "layer")
            for i, (depth, block) in enumerate(zip(depths, blocks, strict=True))
        )
        stages.append(Stage(Part.of("hrvit", {"upsample": "nearest"}), tuple(branches)))
    return Arch(tuple(stages), Part.of("segformer", {"width": 128}))


def _block(index: int, knobs: dict[str, int]) -> Part:
    window = [1, 2, knobs["window3"], 7][index]
    ratio = knobs["ratio3"] if index == 2 else 4
    kind = "hr" if index == 0 and knobs["width1"] < 24 else "cross"
    return Part.of(kind, {"window": window, "head_dim": 16, "ratio": ratio})


def _drawn(outcome: str, random_numbers: random.Random, objectives: Sequence[str]) -> FrozenTrial:
    knobs = {name: random_numbers.choice(values) for name, values in KNOBS.items()}
    if outcome == "trained":
        return _trained(knobs, random_numbers, objectives)
    known = _costs(knobs)
    if outcome == "refused":
        known |= {
            "outcome": "refused",
            "reason": f"{LIMIT} does not hold (flops is 8.26G)",
            "violations": {LIMIT: 0.18},
        }
    elif outcome == "stopped":
        known |= {"outcome": "stopped", "reason": "was not among the best third at rung 0", "seconds": 4.0}
    elif outcome == "failed":
        step = random_numbers.randint(20, 300)
        reasons = [f"the loss is not finite at step {step}", "memory ran out in training"]
        known |= {"outcome": "failed", "reason": random_numbers.choice(reasons), "seconds": 4.0}
    else:
        known |= {"owner": "host:1", "lease": 4e9 if outcome == "running" else 1.0}
    return _frozen(outcome, knobs, known, None)


def _trained(
    knobs: dict[str, int], random_numbers: random.Random, objectives: Sequence[str], known: str | None = None
) -> FrozenTrial:
    costs = _costs(knobs)
    flops = costs["flops"]
    median = 14.0 * (flops / 1e9) ** 0.8 * random_numbers.lognormvariate(0, 0.15)
    latency = Latency(
        median, median * 0.98, median * 1.03, 40, 1, (512, 512), "eager", "cpu", 1, True, median * 1.2, 12.4
    )
    quality = 0.52 - 0.24 * math.exp(-flops / 1.1e9) + random_numbers.gauss(0, 0.018)
    score = Score(quality, "mIoU", 0, 300, 9600, 24.0, 0, 0.9)
    all_known = costs | {
        "latency": asdict(latency),
        **_bill(flops, median),
        "expected_ms": median * 1.05,
        "score": asdict(score),
        "outcome": "trained",
        "violations": {LIMIT: flops / 7e9 - 1},
        "seconds": 31.0,
    }
    for name, of in (("memory", "forward pass"), ("training_memory", "training step")):
        if name in objectives:
            all_known[name] = asdict(Memory(flops // 20, of, "counted by hand", "cpu", (512, 512), 1))  # type: ignore[arg-type]
    if known:
        all_known["known"] = known
    values = [float(objective_of(name).of(all_known) or 0.0) for name in objectives]
    return _frozen("trained", {} if known else knobs, all_known, values)


def _add_rungs(trial: FrozenTrial) -> None:
    """Scores of three rungs for a trained candidate, the shorter the lower; of the first for one that was let go."""
    score = trial.user_attrs.get("score")
    if score:
        last = [{**score, "value": score["value"] * share, "steps": steps} for share, steps in ((0.5, 33), (0.8, 100))]
        trial.user_attrs["rungs"] = [
            {**one, "losses": [[one["steps"] * tenth // 10, round(2 / tenth, 3)] for tenth in range(1, 11)]}
            for one in (*last, score)
        ]
    elif trial.user_attrs.get("outcome") == "stopped":
        first = Score(0.1 + 0.001 * trial.number, "mIoU", 0, 33, 1056, 3.0, 0, 1.9)
        trial.user_attrs["rungs"] = [asdict(first)]


def _bill(flops: int, ms: float) -> dict[str, Any]:
    """Where the FLOPs and the milliseconds go: the finest branches take more time than they count."""
    shares = {"branches at stride 4": (0.2, 0.4), "branches at stride 8": (0.5, 0.3), "head": (0.3, 0.25)}
    flops_by_place = {place: share * flops for place, (share, _) in shares.items()}
    ms_by_place = {place: share * ms for place, (_, share) in shares.items()}
    return {"flops_by_place": flops_by_place, "ms_by_place": ms_by_place | {"between the parts": 0.05 * ms}}


def _costs(knobs: dict[str, int]) -> dict[str, Any]:
    arch = example_arch(knobs)
    flops = sum(_flops(branch) for stage in arch.stages for branch in stage.branches)
    params = sum(branch.channels**2 * (10 * branch.depth + 3) for stage in arch.stages for branch in stage.branches)
    return {"digest": arch.digest(), "arch": arch.to_dict(), "params": params, "flops": flops}


def _flops(branch: Branch) -> int:
    ratio = int(branch.block.keywords()["ratio"]) if branch.block else 0
    return branch.channels**2 * (512 // branch.stride) ** 2 * (branch.depth * (2 + ratio) // 2 + 1)


_STATES = {
    "trained": TrialState.COMPLETE,
    "refused": TrialState.PRUNED,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
    "lost": TrialState.RUNNING,
}


def _frozen(outcome: str, knobs: dict[str, Any], known: dict[str, Any], values: list[float] | None) -> FrozenTrial:
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.CategoricalDistribution(KNOBS[name]) for name in knobs
    }
    trial = create_trial(
        state=_STATES[outcome], values=values, params=knobs, distributions=distributions, user_attrs=known
    )
    started = next(_starts)
    trial.datetime_start = started
    trial.datetime_complete = started + timedelta(seconds=30) if trial.state.is_finished() else None
    return trial


def _clock() -> Iterator[datetime]:
    moment = START
    while True:
        yield moment
        moment += timedelta(seconds=20)


_starts = _clock()
