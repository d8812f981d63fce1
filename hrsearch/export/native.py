"""The export that `hrsearch train` goes on from: the network as YAML, its weights, a recipe, the search's figures."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hrsearch.arch import Arch
from hrsearch.candidate import confirmed_weights, weights_path
from hrsearch.errors import InputError
from hrsearch.export.grammar import yaml_of
from hrsearch.export.readme import figures_of, readme_of
from hrsearch.objective import OBJECTIVES
from hrsearch.pick import value_of
from hrsearch.runner import Proxy, Runner, proxy_of
from hrsearch.study import Record, Trial
from hrsearch.task import TASKS

WEIGHTS = "weights.safetensors"
COMMENTS = {
    "image": "side of the square training images, pixels",
    "train_images": "at most",
    "val_images": "at most",
    "warmup": "steps until the rate has risen to its peak",
    "optimizer": "muon (for weights that mix channels; AdamW for the rest), or adamw",
    "rate": "peak learning rate",
    "schedule": "how the rate falls after the warm-up: cosine, or stable (falls in the last third)",
    "decay": "weight decay",
    "clip": "norm to which gradients are clipped",
    "zoom": "height, width: images are resized by it before the network sees them",
    "augment": "segment, classify, pose, none; auto: the task's for a folder of your own, none for digits",
    "smoothing": "of labels to classify: the share of each that is spread over all classes",
    "balance": "a class weighs its frequency to the power of minus this",
    "precision": "fp32, bf16 or fp16",
    "start": "weights: from those of the search; scratch: from none",
    "every": "steps between validations, each with a checkpoint",
}


def write(record: Record, trial: Trial, folder: Path) -> None:
    """Write the trial's network into an empty folder; without weights where the study has kept none."""
    kept = _weights(record, trial)
    if kept.is_file():
        shutil.copyfile(kept, folder / WEIGHTS)
    plugins = [Path(path) for path in record.attributes.get("plugins") or ()]
    for path in plugins:
        if not path.is_file():
            raise InputError(f"plug-in {path}: no such file any more; the network cannot be built without it")
        shutil.copyfile(path, folder / path.name)
    texts = {
        "arch.yaml": arch_yaml(record, trial),
        "train.yaml": train_yaml(record, trial),
        "README.md": readme_of(record, trial, weights=kept.is_file()),
    }
    files = [*texts, *(path.name for path in plugins), "numbers.json", *([WEIGHTS] if kept.is_file() else [])]
    texts["numbers.json"] = json.dumps({"files": files, **numbers_of(record, trial)}, indent=2, ensure_ascii=False)
    for name, text in texts.items():
        (folder / name).write_text(text.rstrip() + "\n", encoding="utf-8")


def _weights(record: Record, trial: Trial) -> Path:
    """Those of the best confirmed seed where the score is a confirmed one, else those of the search."""
    best = confirmed_weights(record.folder, trial.number)
    is_confirmed = "seeds" in (trial.attributes.get("score") or {})
    return best if is_confirmed and best.is_file() else weights_path(record.folder, trial.number)


def arch_yaml(record: Record, trial: Trial) -> str:
    """The network without knobs; `hrsearch.load_arch` reads it back to the same digest."""
    arch = Arch.from_dict(trial.attributes["arch"])
    plugins = [Path(path).name for path in record.attributes.get("plugins") or ()]
    comment = f"{trial.name} of study {record.name}: {figures_of(trial)}"
    return yaml_of(arch, record.task, comment, plugins)


def train_yaml(record: Record, trial: Trial) -> str:
    """The recipe that `hrsearch train` follows: the proxy's, made long."""
    from hrsearch.train.recipe import default_recipe  # loads torch, which the rest of an export does without

    proxy = _proxy(record, Arch.from_dict(trial.attributes["arch"]))
    recipe = default_recipe(proxy, proxy.data).model_dump(mode="json")
    head = (
        "# How hrsearch train trains this network; every line may be changed.\n"
        f"# The search trained it for {proxy.steps:,} steps at {proxy.image} x {proxy.image} on {proxy.data}.\n"
    )
    comments = COMMENTS | {"data": f"digits, or {TASKS[record.task].folder}"}
    return head + "".join(_line(key, value, comments.get(key)) for key, value in recipe.items())


def _line(key: str, value: Any, comment: str | None) -> str:
    line = yaml.safe_dump({key: value}, allow_unicode=True).rstrip()
    return f"{line:<24}  # {comment}\n" if comment else f"{line}\n"


def numbers_of(record: Record, trial: Trial) -> dict[str, Any]:
    """All that the search knows of the network, as JSON. FLOPs: one multiply-accumulate is one."""
    attributes = trial.attributes
    return {
        "study": record.name,
        "trial": trial.number,
        "name": trial.name,
        "digest": attributes.get("digest"),
        "task": record.task,
        "classes": record.attributes.get("classes"),
        "objectives": {name: value_of(trial, name) for name in OBJECTIVES},
        "score": attributes.get("score"),
        "latency": attributes.get("latency"),
        "memory": attributes.get("memory"),
        "training_memory": attributes.get("training_memory"),
        "flops": attributes.get("flops"),
        "params": attributes.get("params"),
        "knobs": dict(trial.knobs),
        **{key: _mapping(record, key) for key in ("runner", "versions", "machine")},
        **{key: record.attributes.get(key) for key in ("protocol", "split", "reference_ms", "space_path")},
    }


def _mapping(record: Record, key: str) -> Any:
    value = record.attributes.get(key)
    return dict(value) if isinstance(value, Mapping) else value


def _proxy(record: Record, arch: Arch) -> Proxy:
    try:
        return proxy_of(Runner.model_validate(record.attributes["runner"]), arch)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"study {record.name!r} was made by another hrsearch: it does not know {key}") from None
