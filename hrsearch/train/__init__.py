"""Trains an exported network in earnest, and goes on where an earlier run of the same recipe stopped."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tqdm import tqdm

from hrsearch.build import Network, build
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.proxy.checkpoint import Row, read_state, restore, state_of, write_rows, write_state, write_weights
from hrsearch.proxy.data import Dataset, is_made, load_dataset
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.learning import Learner, learn, learner_of, memory_watched, rate_factor, validate
from hrsearch.proxy.tasks import LEARNING
from hrsearch.space import load_arch, load_task
from hrsearch.train.recipe import Recipe, default_recipe, load_recipe

__all__ = ["Recipe", "TrainResult", "default_recipe", "how_of", "load_recipe", "train"]

SAMPLED = 512  # training images kept as squares for the statistics where all are read from their files
WEIGHTS = "weights.safetensors"
RUN = "run"  # the folder of all that training writes
BEST, CHECKPOINT, METRICS = "best.safetensors", "checkpoint.pt", "metrics.csv"


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    folder: Path  # where its files lie
    steps: int
    metric: str  # mIoU, top-1 or PCK@0.1
    value: float  # over the validation images at the end
    best: float  # and at its best
    best_step: int

    def __str__(self) -> str:
        best = f"best {self.best:.3f} at step {self.best_step:,}, weights in {self.folder / BEST}"
        return f"{self.metric} {self.value:.3f} after {self.steps:,} steps; {best}"


@dataclass(frozen=True)
class Run:
    """A training under way."""

    folder: Path
    recipe: Recipe
    data: Dataset
    how: How  # its batches are made
    digest: str  # of the architecture
    learner: Learner

    @property
    def metric(self) -> str:
        """What its score is called."""
        return LEARNING[self.data.task].metric

    @property
    def column(self) -> str:
        """And in the table of its steps."""
        return self.metric.lower()


def train(folder: Path, *, data: str | None = None, steps: int | None = None, device: str | None = None) -> TrainResult:
    """Train the network of an exported folder by its `train.yaml`; `data` and `steps` replace what that says.

    Writes `run/metrics.csv`, `run/best.safetensors` and checkpoints. The same call again goes on from the last
    checkpoint and ends as an uninterrupted run would, or returns at once what a finished one has reached. Mistakes, a
    loss that is not finite and memory that runs out are InputErrors.
    """
    if not (folder / "arch.yaml").is_file():
        raise InputError(f"{folder}: holds no arch.yaml; give a folder that hrsearch export wrote")
    recipe = load_recipe(folder / "train.yaml", data=data, steps=steps)
    (folder / RUN).mkdir(exist_ok=True)
    try:
        with memory_watched():
            run = _prepared(folder, recipe, _device(device))
            rows = _resumed(run)
            for row in _rows(run, rows):
                rows = [*rows, row]
                _keep(run, rows)
    except CandidateFailed as error:
        raise InputError(f"{folder}: training failed: {error}; lower rate, batch or image in train.yaml") from None
    return _result(run, rows)


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: cannot be used ({str(error).splitlines()[0]})") from None
    return device


def _prepared(folder: Path, recipe: Recipe, device: torch.device) -> Run:
    task = load_task(folder / "arch.yaml")
    how = how_of(recipe, task, device)
    data = load_dataset(
        recipe.data,
        image=recipe.image,
        train_images=recipe.train_images,
        val_images=recipe.val_images,
        task=task,
        split="official",
        decoded=SAMPLED if how.from_files else None,
    )
    torch.manual_seed(recipe.seed)
    network = build(load_arch(folder / "arch.yaml"), classes=len(data.classes), drop_path=recipe.drop_path)
    if recipe.start == "weights" and (folder / WEIGHTS).is_file():
        _load(network, folder / WEIGHTS)
    return Run(folder / RUN, recipe, data, how, network.arch.digest(), learner_of(network, data, recipe, device))


def how_of(recipe: Recipe, task: str, device: torch.device) -> How:
    """How its batches are made: a person's own images are augmented as they lie on the disk, by other processes."""
    is_own = not is_made(recipe.data)
    if recipe.augment not in ("auto", "none", task):
        raise InputError(f"augment: {recipe.augment!r} is not for task {task!r}; give auto, none or {task}")
    augments = recipe.augment == task or (recipe.augment == "auto" and is_own)
    workers = decoders(device.type) if augments else 0
    return How(augments=augments, smoothing=recipe.smoothing, from_files=augments and is_own, workers=workers)


def decoders(kind: str) -> int:
    """Processes that decode and augment beside a training on such a device: on a CPU it needs the cores itself."""
    cores = os.cpu_count() or 1
    return max(cores - 2, 1) if kind == "cuda" else max(cores // 4, 1)


def _load(network: Network, path: Path) -> None:
    """Load weights; a classifier for another number of classes stays as it was drawn."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    own = network.state_dict()
    other = sorted(found.keys() ^ own.keys())
    if other:
        raise InputError(f"{path}: weights of another network ({other[0]} is in one of them only)")
    network.load_state_dict(own | {name: tensor for name, tensor in found.items() if tensor.shape == own[name].shape})


def _resumed(run: Run) -> list[Row]:
    """The rows up to the last checkpoint, from which the learner goes on."""
    path = run.folder / CHECKPOINT
    state = read_state(path, run.learner.device)
    if state is None:
        return []
    theirs = state["identity"]
    for key, value in _identity(run).items():
        if theirs.get(key) != value:
            changed = f"{key}: {theirs.get(key)} is now {value}"
            raise InputError(f"{path}: another training ({changed}); remove {run.folder} to start anew")
    restore(run.learner, state)
    rows: list[Row] = state["rows"]
    return rows


def _identity(run: Run) -> dict[str, Any]:
    """What must not change within one training."""
    return {**run.recipe.model_dump(), "split": run.data.split, "arch": run.digest}


def _rows(run: Run, earlier: list[Row]) -> Iterator[Row]:
    """Train; what is to be said of every `recipe.every` steps, and of the end."""
    recipe = run.recipe
    start = int(earlier[-1]["step"]) if earlier else 0
    clock = time.perf_counter() - (earlier[-1]["seconds"] if earlier else 0)
    losses: list[float] = []
    with tqdm(total=recipe.steps, initial=start, unit="step", disable=None) as bar:
        given = batches(run.data, recipe, run.how, seed=recipe.seed, start=start)
        for step, batch in enumerate(given, start):
            losses.append(learn(run.learner, run.data, recipe, step=step, seed=recipe.seed, given=batch))
            bar.update()
            if (step + 1) % recipe.every and step + 1 < recipe.steps:
                continue
            row = {
                "step": step + 1,
                "loss": sum(losses) / len(losses),
                "rate": recipe.rate * rate_factor(recipe, step),
                run.column: validate(run.learner, run.data, recipe),
                "seconds": round(time.perf_counter() - clock, 3),
            }
            losses.clear()
            bar.set_postfix({"loss": f"{row['loss']:.3f}", run.metric: f"{row[run.column]:.3f}"})
            yield row


def _keep(run: Run, rows: list[Row]) -> None:
    """The best weights first: a run killed before the checkpoint writes them again, the same."""
    if rows[-1] is _best(run, rows):
        write_weights(run.folder / BEST, run.learner.network)
    state = {
        "identity": _identity(run),
        "rows": rows,
        **state_of(run.learner),
    }
    write_state(run.folder / CHECKPOINT, state)
    write_rows(run.folder / METRICS, rows)


def _best(run: Run, rows: list[Row]) -> Row:
    return max(rows, key=lambda row: row[run.column])


def _result(run: Run, rows: list[Row]) -> TrainResult:
    last, best = rows[-1], _best(run, rows)
    return TrainResult(run.folder, int(last["step"]), run.metric, last[run.column], best[run.column], int(best["step"]))
