"""Measures the networks of a study again, elsewhere or otherwise: for `hrsearch measure`. Nothing is retrained."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hrsearch.arch import Arch
from hrsearch.build import Network, build
from hrsearch.cost import cost, device_of, measure, peak_memory, reference_time, require_engine
from hrsearch.cost.latency import device_name
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.plugins import load_plugins
from hrsearch.proxy.learning import memory_watched
from hrsearch.runner import Measure
from hrsearch.search.ledger import noting
from hrsearch.study import Record, Trial, read_study
from hrsearch.targets import key_of, targets_of

MUST_AGREE = ("engine", "image", "batch", "threads", "device")


@dataclass(frozen=True)
class Measured:
    """A trial and its latency there, or why there is none; and how many are done of how many."""

    trial: Trial
    result: Mapping[str, Any]
    done: int
    total: int


def retarget(
    folder: Path, how: Measure, name: str | None = None, on_trial: Callable[[Measured], None] = lambda one: None
) -> str:
    """Measure every trained network of the study in `folder` so; what was measured before is not measured again.

    Returns the target's name: `name`, or the engine and the image's size. Networks with an image size of their own keep
    their ratio to the study's. An InputError says that the study has no trained network, that the engine cannot run
    here, or that the name stands for another way to measure.
    """
    record = read_study(folder)
    if not record.trained:
        raise InputError(f"study {record.name!r} has no trained network to measure; let it run further")
    target = name or _named(how)
    load_plugins(record.attributes.get("plugins") or ())
    note = noting(folder)
    settings = _settings(record, target, how)
    todo = [trial for trial in record.trained if not _is_measured(record, target, trial)]
    done = len(record.trained) - len(todo)
    for index, (trial, result) in enumerate(_results(record, todo, how, settings["reference_ms"]), start=1):
        # With the first result, not before: an engine that cannot run here leaves no trace.
        note(({key_of(target): settings} if index == 1 else {}) | {key_of(target, trial.number): result})
        on_trial(Measured(trial, result, done + index, len(record.trained)))
    return target


def _named(how: Measure) -> str:
    engine = "command" if how.engine.startswith("command:") else how.engine
    return f"{engine}-{how.image[0]}x{how.image[1]}"


def _is_measured(record: Record, target: str, trial: Trial) -> bool:
    """What failed there is tried again."""
    return "latency" in record.attributes.get(key_of(target, trial.number), {})


def _settings(record: Record, target: str, how: Measure) -> dict[str, Any]:
    """How it is measured, as the study keeps it; an InputError if the name stands for something else."""
    require_engine(how.engine)
    asked = how.model_dump(mode="json") | {"device": device_name(how.engine)}
    known = targets_of(record).get(target)
    if known is None:
        return asked | {"reference_ms": reference_time(how.engine, how.threads)}
    for key in MUST_AGREE:
        if known.get(key) != asked[key]:
            was = f"{key} {known.get(key)}"
            raise InputError(f"target {target!r} was measured with {was}, now it is {asked[key]}; give another --name")
    return dict(known)


def _results(
    record: Record, trials: list[Trial], how: Measure, reference_ms: float
) -> Iterator[tuple[Trial, dict[str, Any]]]:
    classes = len(record.attributes["classes"])
    for trial in trials:
        arch = Arch.from_dict(trial.attributes["arch"])
        image = _image(record, arch, how)
        network = build(arch, classes=classes)
        try:
            with memory_watched():
                latency = measure(
                    network,
                    image,
                    how.engine,
                    batch=how.batch,
                    threads=how.threads,
                    seconds=how.seconds,
                    reference_ms=reference_ms,
                )
                memory = _memory(trial, network, image, how)
        except CandidateFailed as error:
            yield trial, {"reason": str(error)}
        else:
            yield trial, {"latency": asdict(latency), "flops": cost(arch, image, classes).flops, **memory}


def _memory(trial: Trial, network: Network, image: tuple[int, int], how: Measure) -> dict[str, Any]:
    """The peaks that the study knows of the trial, as they are there; that of a training step where it was searched."""
    known, found = trial.attributes, {}
    if "memory" in known:
        found["memory"] = asdict(peak_memory(network, image, how.batch, device=device_of(how.engine)))
    if "training_memory" in known:
        device = "cpu" if known["training_memory"]["device"] == "cpu" else "cuda"
        found["training_memory"] = asdict(peak_memory(network, image, how.batch, training=True, device=device))
    return found


def _image(record: Record, arch: Arch, how: Measure) -> tuple[int, int]:
    if arch.image is None:
        return how.image
    usual = record.attributes["runner"]["measure"]["image"]
    height, width = (max(own * now // was, 1) for own, now, was in zip(arch.image, how.image, usual, strict=True))
    return height, width
