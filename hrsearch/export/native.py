"""The export that `hrsearch train` goes on from: the network as YAML, its weights, a recipe, the search's figures."""

import shutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hrsearch.arch import Arch
from hrsearch.errors import InputError
from hrsearch.export.readme import figures_of, native_usage
from hrsearch.export.target import Target
from hrsearch.export.winner import Winner
from hrsearch.grammar import yaml_of
from hrsearch.objective import OBJECTIVES
from hrsearch.pick import value_of
from hrsearch.registry import EXPORTS
from hrsearch.runner import Proxy, Runner, proxy_of
from hrsearch.study import Record, Trial
from hrsearch.task import TASKS

WEIGHTS = "weights.safetensors"
OURS = ("check.py", "model.py", "mmseg_backbone.py", "mmseg_config.py", "timm_model.py")  # that targets write
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
    "mirrors": "images may be flipped; false where left and right mean something: arrows, signs, text",
    "smoothing": "of labels to classify: the share of each that is spread over all classes",
    "balance": "a class weighs its frequency to the power of minus this",
    "precision": "fp32, bf16 or fp16",
    "start": "weights: from those of the search; scratch: from none",
    "every": "steps between validations, each with a checkpoint",
}


def native_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What hrsearch makes of arch.yaml and its weights."""
    import json

    import torch
    from safetensors.torch import load_file

    hrsearch = import_module("hrsearch")
    classes = json.loads((folder / "numbers.json").read_text(encoding="utf-8"))["classes"]
    count = classes if isinstance(classes, int) else len(classes)
    network = hrsearch.build(hrsearch.load_arch(folder / "arch.yaml"), classes=count).eval()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    with torch.inference_mode():
        prediction, maps = network(torch.from_numpy(image)), network.pyramid(torch.from_numpy(image))
    return {"prediction": prediction.numpy()} | {f"map{index}": each.numpy() for index, each in enumerate(maps)}


@EXPORTS.add("native")
class Native(Target):
    """YAML, safetensors and a recipe."""

    outputs = staticmethod(native_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write arch.yaml, train.yaml and what the network needs; without weights where the study has kept none."""
        if winner.weights:
            shutil.copyfile(winner.weights, folder / WEIGHTS)
        for path, name in zip(winner.plugins, plugin_names(winner.plugins), strict=True):
            shutil.copyfile(path, folder / name)
        for name, text in (("arch.yaml", arch_yaml), ("train.yaml", train_yaml)):
            (folder / name).write_text(text(winner.record, winner.trial).rstrip() + "\n", encoding="utf-8")
        if winner.trained:
            (folder / "train.yaml").write_text(_followed(winner, winner.trained), encoding="utf-8")
        return native_usage(winner)


def _followed(winner: Winner, weights: Path) -> str:
    """The recipe that it was trained by, which begins from now on with what that has made of it."""
    recipe = yaml.safe_load(weights.with_name("recipe.yaml").read_text(encoding="utf-8"))
    anew = {"data": winner.trial.attributes["score"]["data"], "start": "weights"}
    return str(yaml.safe_dump({**recipe, **anew}, sort_keys=False, allow_unicode=True))


def plugin_names(plugins: Sequence[Path]) -> list[str]:
    """The names under which plug-ins lie in an export: their own, but where another file has it there."""
    found: list[str] = []
    for path in plugins:
        names = chain([path.name], (f"{path.stem}_{number}{path.suffix}" for number in count(2)))
        found.append(next(name for name in names if name not in (*OURS, *found)))
    return found


def arch_yaml(record: Record, trial: Trial) -> str:
    """The network without knobs; `hrsearch.load_arch` reads it back to the same digest."""
    arch = Arch.from_dict(trial.attributes["arch"])
    plugins = plugin_names([Path(path) for path in record.attributes.get("plugins") or ()])
    comment = f"{trial.name} of study {record.name}: {figures_of(trial)}"
    return yaml_of(arch, record.task, comment, plugins)


def train_yaml(record: Record, trial: Trial) -> str:
    """The recipe that `hrsearch train` follows: the proxy's, made long."""
    from hrsearch.proxy.data import located  # loads torch, which the rest of an export does without
    from hrsearch.train.recipe import default_recipe

    proxy = _proxy(record, Arch.from_dict(trial.attributes["arch"]))
    recipe = default_recipe(proxy, located(proxy.data)).model_dump(mode="json")
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
        runner = record.attributes.get("runner_of_search") or record.attributes["runner"]
        return proxy_of(Runner.model_validate(runner), arch)
    except ValidationError as error:
        key = ".".join(map(str, error.errors()[0]["loc"]))
        raise InputError(f"study {record.name!r} was made by another hrsearch: it does not know {key}") from None
