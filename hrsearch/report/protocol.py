"""How candidates were judged: the runner, the machine, the versions, and what the figures mean."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from hrsearch.report.markup import Markup, element
from hrsearch.report.words import NOTHING, duration, metric_beside, plain, spelled
from hrsearch.study import Record

FLOPS = (
    "FLOPs are multiply-accumulates: one multiply-accumulate is one. Softmax, norms and activations are not counted."
)
SCORES = (
    "Candidates train at the proxy's crop and are timed at the deployment size. "
    "A score is one short training with one seed: small differences between scores may be chance."
)
LIKELY = (
    "The likelihood is exp(-loss) on the validation images: how probable the network finds the right classes, in the "
    "geometric mean, rare classes counted more. It orders networks more surely than {}, which stands beside it."
)
MEMORY = (
    "Memory is the peak of one batch at the deployment size, in float32: parameters, buffers and images included, in "
    "training gradients and AdamW's moments, too. It is {}."
)
PROXY = {
    "data": "data",
    "image": "training crop, pixels",
    "batch": "batch",
    "steps": "steps",
    "rate": "peak learning rate",
    "train_images": "training images",
    "val_images": "validation images",
    "precision": "precision",
}
MEASURE = {
    "image": "deployment image, pixels",
    "batch": "batch",
    "engine": "engine",
    "device": "device",
    "threads": "threads",
}
SEARCH = {
    "sampler": "sampler",
    "seed": "seed",
    "draws": "draws for a candidate",
    "control": "share drawn at random",
    "objectives": "objectives",
    "limits": "limits",
    "kind": "engine",
    "workers": "workers",
}


def protocol(record: Record) -> Markup:
    """How candidates were judged, on which machine, with which versions."""
    runner = record.attributes.get("runner", {})
    groups = {
        "Score": _facts(runner.get("proxy", {}), PROXY),
        "Latency": _facts(runner.get("measure", {}) | {"device": runner.get("device")}, MEASURE),
        "Search": _facts(runner.get("search", {}) | _engine(runner), SEARCH),
        "Machine": _mapping(record.attributes.get("machine")),
        "Versions": _mapping(record.attributes.get("versions")),
        "Study": _study(record),
    }
    boxes = [element("div", element("h3", title), element("dl", facts)) for title, facts in groups.items() if facts]
    folded = [
        _folded("The space as it was searched", str(record.attributes.get("space") or "")),
        _folded("The runner in full", yaml.safe_dump(runner, sort_keys=False) if runner else ""),
    ]
    said = [element("p", text) for text in (FLOPS, SCORES, *_likelihood(record), *_memory(record))]
    return element("section", element("h2", "Protocol"), said, element("div", boxes, class_="facts"), folded)


def _likelihood(record: Record) -> Iterator[str]:
    """What a score is that is not the task's metric."""
    if name := metric_beside(record):
        yield LIKELY.format(name)


def _memory(record: Record) -> Iterator[str]:
    """What memory means and how it was obtained, where it is known."""
    found = [trial.attributes.get(name) for trial in record.trials for name in ("memory", "training_memory")]
    how = dict.fromkeys(memory["how"] for memory in found if memory)
    if how:
        yield MEMORY.format(spelled(list(how)))


def _engine(runner: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's facts, with what no number of workers means."""
    facts = dict(runner.get("engine") or {})
    if facts.get("kind") == "inline":
        facts["workers"] = 1
    elif facts.get("workers") == 0:
        facts["workers"] = "one per GPU" if runner.get("device") == "cuda" else "one per core"
    return facts


def _facts(section: Mapping[str, Any], titles: Mapping[str, str]) -> list[Markup]:
    known = {key: section[key] for key in titles if section.get(key) is not None}
    return [_fact(titles[key], value) for key, value in known.items()]


def _mapping(value: Any) -> list[Markup]:
    if isinstance(value, Mapping):
        return [_fact(str(key), inner) for key, inner in value.items() if inner is not None]
    return [_fact("", value)] if value else []


def _study(record: Record) -> list[Markup]:
    moments = [moment for trial in record.trials for moment in (trial.started, trial.finished) if moment]
    seconds = sum(float(trial.attributes.get("seconds") or 0.0) for trial in record.trials)
    facts = {
        "task": record.task,
        "began": f"{min(moments):%Y-%m-%d %H:%M}" if moments else None,
        "last change": f"{max(moments):%Y-%m-%d %H:%M}" if moments else None,
        "taken over from other studies": sum("copied_from" in trial.attributes for trial in record.trials) or None,
        "judging, all workers": duration(seconds) if seconds else None,
        "protocol": record.attributes.get("protocol"),
        "data split": record.attributes.get("split"),
        "reference network, ms": _rounded(record.attributes.get("reference_ms")),
    }
    return [_fact(key, value) for key, value in facts.items() if value is not None]


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _fact(title: str, value: Any) -> Markup:
    return element("div", element("dt", title), element("dd", plain(value) or NOTHING))


def _folded(title: str, text: str) -> Markup | None:
    return element("details", element("summary", title), element("pre", text)) if text else None
