"""Trains an exported network in earnest, and goes on where an earlier run of the same recipe stopped."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from tqdm import tqdm

from hrsearch.build import build
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.proxy.checkpoint import Row, read_state, write_rows, write_state, write_text, write_weights
from hrsearch.proxy.data import Dataset, is_made, load_dataset, located
from hrsearch.proxy.data.layout import Wrong
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.groups import Groups
from hrsearch.proxy.learning import learner_of, memory_watched, tally
from hrsearch.proxy.tasks import LEARNING
from hrsearch.space import load_arch, load_task
from hrsearch.storage import locked
from hrsearch.train.averaging import Average
from hrsearch.train.board import Show, board
from hrsearch.train.checkpointing import checkpointed
from hrsearch.train.distill import require_classes
from hrsearch.train.distributed import Team, device_of, require_even, shared, team_of, with_shared_norms
from hrsearch.train.evaluate import require_segments, tested
from hrsearch.train.fits import Needs, free_bytes, require_room
from hrsearch.train.hard import require_pixels
from hrsearch.train.recipe import Recipe, default_recipe, load_recipe, require_data, settings_of
from hrsearch.train.schedule import rate_at
from hrsearch.train.start import BEST, CHECKPOINT, TRAINED, begin_with, data_of, file_of, said_in, within
from hrsearch.train.steps import Trainer, learn

__all__ = ["Recipe", "TrainResult", "default_recipe", "how_of", "load_recipe", "settings_of", "train"]

SAMPLED = 512  # training images kept as squares for the statistics where all are read from their files
RUN = "run"  # the folder of all that training writes; of a fine-tuning: with its image size behind
METRICS, TEST = "metrics.csv", "test.json"
LOCK = ".train"  # held by the process that writes there
PATIENCE_S = 10.0  # with what a killed training leaves behind: processes that read its images end within seconds
RECIPE = "recipe.yaml"  # what was trained by, every key of it
CHANGEABLE = {"patience", "tensorboard", "test", "test_scales", "test_flip", "checkpointing", "compile"}


@dataclass(frozen=True)
class TrainResult:
    """How a training ended."""

    folder: Path  # where its files lie
    steps: int
    metric: str  # mIoU, top-1 or PCK@0.1
    value: float  # over the validation images at the end
    best: float  # and at its best
    best_step: int
    tested: float | None = None  # mIoU of the best over whole images, where the recipe asks for it

    def __str__(self) -> str:
        best = f"best {self.best:.3f} at step {self.best_step:,}, weights in {self.folder / BEST}"
        whole = "" if self.tested is None else f"; {self.metric} {self.tested:.3f} on whole images ({TEST})"
        return f"{self.metric} {self.value:.3f} after {self.steps:,} steps; {best}{whole}"


@dataclass(frozen=True)
class Run:
    """A training under way."""

    folder: Path
    recipe: Recipe
    data: Dataset
    how: How  # its batches are made
    digest: str  # of the architecture
    trainer: Trainer

    @property
    def team(self) -> Team:
        """The processes that train together."""
        return self.trainer.team

    @property
    def metric(self) -> str:
        """What its score is called."""
        return LEARNING[self.data.task].metric

    @property
    def column(self) -> str:
        """And in the table of its steps."""
        return self.metric.lower()


def train(
    folder: Path,
    *,
    data: str | None = None,
    steps: int | None = None,
    device: str | None = None,
    recipe: str | None = None,
    start: str | None = None,
    image: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> TrainResult:
    """Train the network of an exported folder by its `train.yaml`, or over that by a `recipe`: a paper's, or a file.

    `data`, `steps`, `start`, `image` and any of the `settings` replace what the recipe says. With a `start` it is a
    fine-tuning, beside the first training's files.

    Writes `run/metrics.csv`, `run/recipe.yaml`, `run/best.safetensors` and checkpoints. The same call again goes on
    from the last checkpoint and ends as an uninterrupted run would, or returns at once what a finished one has reached.
    Processes that torchrun starts train together. Mistakes, a loss that is not finite and memory that runs out, or
    would, are InputErrors.
    """
    if not (folder / "arch.yaml").is_file():
        raise InputError(f"{folder}: holds no arch.yaml; give a folder that hrsearch export wrote")
    start = start and within(start, folder)
    options = {"data": data, "steps": steps, "image": image, "start": start}
    given = {**(settings or {}), **{key: value for key, value in options.items() if value is not None}}
    names_data = "data" in given
    if start is not None and not names_data:
        given |= data_of(file_of(start, folder))
    arch, task = load_arch(folder / "arch.yaml"), load_task(folder / "arch.yaml")
    asked = load_recipe(folder / "train.yaml", named=recipe, arch=arch, task=task, settings=given)
    if recipe is not None and not names_data:
        require_data(asked, recipe, task)
    where = device_of(device)
    out = folder / (RUN if start is None else f"{RUN}-{asked.image}")
    out.mkdir(exist_ok=True)
    with team_of(where.type) as team:
        place = torch.device("cuda", team.local) if where.type == "cuda" and team.size > 1 else where
        try:
            with _alone(out, team), memory_watched():
                return _trained(_prepared(folder, out, asked, place, team))
        except Wrong as error:  # an image that was whole when it was looked at
            again = "mend it, and the same command goes on from the last checkpoint"
            raise InputError(f"{error}; {again}") from None
        except CandidateFailed as error:
            told = "lower rate or image, or raise accumulate, in train.yaml or by --set"
            raise InputError(f"{folder}: training failed: {error}; {told}") from None


@contextmanager
def _alone(out: Path, team: Team) -> Iterator[None]:
    """Two trainings at once would write over each other's checkpoints; a team writes by its first process alone."""
    with ExitStack() as stack:
        if team.leads:
            _lock(out, stack)
        yield


def _lock(out: Path, stack: ExitStack) -> None:
    """Hold the folder's lock until the stack is left; an InputError if another training does."""
    last = time.monotonic() + PATIENCE_S
    while True:
        try:
            stack.enter_context(locked(out / LOCK, waits=False))
            return
        except BlockingIOError:
            if time.monotonic() < last:
                time.sleep(0.2)
                continue
            again = "let it end or stop it; the same command then goes on from its checkpoint"
            raise InputError(f"{out}: another training is at work on it; {again}") from None


def _trained(run: Run) -> TrainResult:
    rows = _resumed(run)
    show: Show | None = None
    if run.recipe.tensorboard and run.team.leads:
        show = board(run.folder / "board", int(rows[-1]["step"]) if rows else 0)
    for row in _rows(run, rows):
        rows = [*rows, row]
        if run.team.leads:
            _keep(run, rows)
        if show:
            show(row)
    return _result(run, rows)


def _prepared(folder: Path, out: Path, recipe: Recipe, device: torch.device, team: Team) -> Run:
    task = load_task(folder / "arch.yaml")
    require_classes(recipe, task)
    require_segments(recipe, task)
    require_pixels(recipe, task)
    require_even(team, recipe.batch, recipe.accumulate)
    how = how_of(recipe, task, device, team)
    with team.leader_first(), _fitting(recipe):
        data = load_dataset(
            recipe.data,
            image=recipe.image,
            train_images=recipe.train_images,
            val_images=recipe.val_images,
            task=task,
            split="official",
            decoded=SAMPLED if how.from_files else None,
        ).flipped_if(recipe.mirrors)
    recipe = recipe.timed(len(data.files) or len(data.train))
    trainer = _trainer(folder, out, recipe, data, device, team)
    arch: str = load_arch(folder / "arch.yaml").digest()
    return Run(out, recipe, data, how, arch, trainer)


@contextmanager
def _fitting(recipe: Recipe) -> Iterator[None]:
    """Inside, images are made: an InputError where these take more memory than there is."""
    try:
        with memory_watched():
            yield
    except CandidateFailed as error:
        what = f"{recipe.data}, its images at {recipe.image} pixels"
        raise InputError(f"{what}: {error}; lower image or train_images, in train.yaml or by --set") from None


def _trainer(folder: Path, out: Path, recipe: Recipe, data: Dataset, device: torch.device, team: Team) -> Trainer:
    """The network with its weights to begin with, once a step is known to fit; its average, its norms, its team."""
    torch.manual_seed(recipe.seed)
    network = build(load_arch(folder / "arch.yaml"), classes=len(data.classes), drop_path=recipe.drop_path)
    path = file_of(recipe.start, folder)
    if path is not None:
        begin_with(network, path)
    average = Average(network.to(device), recipe.ema) if recipe.ema else None
    if recipe.checkpointing:
        checkpointed(network)
    if team.leads and not (out / CHECKPOINT).exists():  # what has begun here did fit
        require_room(Needs(network.cpu(), recipe, team), free_bytes(device, team))
    if recipe.sync_bn:
        with_shared_norms(network, team, device)
    groups = Groups(recipe.undecayed, recipe.head_rate)
    learner = learner_of(network, data, recipe, device, groups)
    return Trainer(learner, shared(network, team, device, compiled=recipe.compile), average, team)


def how_of(recipe: Recipe, task: str, device: torch.device, team: Team | None = None) -> How:
    """How its batches are made: a person's own images are augmented as they lie on the disk, by other processes."""
    is_own = not is_made(recipe.data)
    if recipe.augment not in ("auto", "none", task):
        raise InputError(f"augment: {recipe.augment!r} is not for task {task!r}; give auto, none or {task}")
    augments = recipe.augment == task or (recipe.augment == "auto" and is_own)
    team = team or Team()
    return How(
        augments=augments,
        smoothing=recipe.smoothing,
        from_files=augments and is_own,
        workers=decoders(device.type, team.here) if augments else 0,
        erasing=recipe.erasing,
        rotation=recipe.rotation,
        rescale=recipe.rescale,
        rank=team.rank,
        ranks=team.size,
    )


def decoders(kind: str, trainings: int = 1) -> int:
    """Processes that decode and augment beside each of so many trainings: on a CPU these need the cores themselves."""
    cores = (os.cpu_count() or 1) // trainings
    return max(cores - 2, 1) if kind == "cuda" else max(cores // 4, 1)


def _resumed(run: Run) -> list[Row]:
    """The rows up to the last checkpoint, from which the learner goes on."""
    path = run.folder / CHECKPOINT
    try:
        state = read_state(path, run.trainer.learner.device)
    except InputError as error:
        raise InputError(f"{error}; {_ways_on(run, CHECKPOINT)}") from None
    if state is None:
        return []
    theirs = state.get("identity", {}) if isinstance(state, dict) else {}
    for key, value in _identity(run).items():
        if theirs.get(key) != value:
            changed = f"{key}: {theirs.get(key)} is now {value}"
            raise InputError(f"{path}: another training ({changed}); {_ways_on(run, key)}")
    run.trainer.restore(state)
    rows: list[Row] = state["rows"]
    return rows


def _ways_on(run: Run, key: str) -> str:
    """What can be done where `key` is another than in the training that the folder holds, perhaps a first stage."""
    anew = f"remove {run.folder} to start anew"
    if run.folder.name != RUN or key == "arch" or not (run.folder / BEST).is_file():
        return anew
    return f"--from {RUN}/{BEST} goes on from its best weights, in a folder of its own; or {anew}"


def _identity(run: Run) -> dict[str, Any]:
    """What must not change within one training. Where a person's own data lies may: its split says what it is."""
    named = {"data": run.recipe.data} if is_made(run.recipe.data) else {}
    plain = run.recipe.model_dump(exclude={*CHANGEABLE, "data"})
    return {**named, **plain, "split": run.data.split, "arch": run.digest}


def _rows(run: Run, earlier: Sequence[Row]) -> Iterator[Row]:
    """Train; what is to be said of every `recipe.every` steps, and of the end."""
    recipe, rows = run.recipe, list(earlier)
    start = int(rows[-1]["step"]) if rows else 0
    clock = time.perf_counter() - (rows[-1]["seconds"] if rows else 0)
    if _is_spent(run, rows):
        return
    losses: list[float] = []
    with tqdm(total=recipe.steps, initial=start, unit="step", disable=None if run.team.leads else True) as bar:
        given = batches(run.data, recipe, run.how, seed=recipe.seed, start=start)
        for step, batch in enumerate(given, start):
            losses.append(learn(run.trainer, run.data, recipe, step=step, given=batch))
            bar.update()
            if (step + 1) % recipe.every and step + 1 < recipe.steps:
                continue
            row = {
                "step": step + 1,
                "loss": sum(losses) / len(losses),
                "rate": rate_at(recipe, step),
                **_scores(run),
                "seconds": round(time.perf_counter() - clock, 3),
            }
            losses.clear()
            bar.set_postfix({"loss": f"{row['loss']:.3f}", run.metric: f"{row[run.column]:.3f}"})
            yield row
            rows.append(row)
            if _is_spent(run, rows):
                return


def _scores(run: Run) -> dict[str, float]:
    """The score by its column; beside an average's that of the weights as they are."""
    trainer, learning = run.trainer, LEARNING[run.data.task]
    networks: dict[str, nn.Module] = {run.column: trainer.judged}
    if trainer.average:
        networks[f"{run.column}_unaveraged"] = trainer.learner.network
    plan = run.recipe.model_copy(update={"batch": run.recipe.at_once(run.team.size)})  # no more than a step can hold
    turns = (run.team.rank, run.team.size)
    counts = {
        name: tally(network, run.data, plan, trainer.learner.device, *turns) for name, network in networks.items()
    }
    return {name: learning.value(run.team.summed(count)) for name, count in counts.items()}


def _is_spent(run: Run, rows: Sequence[Row]) -> bool:
    """Whether the last validations, as many as the recipe's patience, have brought nothing better."""
    patience = run.recipe.patience
    return bool(rows and patience) and len(rows) - 1 - rows.index(_best(run, rows)) >= patience


def _told(run: Run, row: Row) -> dict[str, Any]:
    """What the best weights are."""
    score = {"value": row[run.column], "metric": run.metric, "steps": int(row["step"]), "seed": run.recipe.seed}
    about = {
        "data": located(run.recipe.data),
        "classes": list(run.data.classes),
        "normalisation": run.data.normalisation,
    }
    return {"digest": run.digest, **about, **score}


def _keep(run: Run, rows: list[Row]) -> None:
    """The best weights first: a run killed before the checkpoint writes them again, the same."""
    if rows[-1] is _best(run, rows):
        write_weights(run.folder / BEST, run.trainer.judged, run.data)
        write_text(run.folder / TRAINED, json.dumps(_told(run, rows[-1]), indent=2) + "\n")
    write_state(run.folder / CHECKPOINT, {"identity": _identity(run), "rows": rows, **run.trainer.state()})
    write_rows(run.folder / METRICS, rows)
    write_text(run.folder / RECIPE, yaml.safe_dump(run.recipe.model_dump(mode="json"), sort_keys=False))


def _best(run: Run, rows: Sequence[Row]) -> Row:
    return max(rows, key=lambda row: row[run.column])


def _result(run: Run, rows: list[Row]) -> TrainResult:
    last, best = rows[-1], _best(run, rows)
    value, top, steps = last[run.column], best[run.column], int(last["step"])
    return TrainResult(run.folder, steps, run.metric, value, top, int(best["step"]), _tested(run, int(best["step"])))


def _tested(run: Run, step: int) -> float | None:
    """The recipe's test of the best weights, those of this step: done once, then read."""
    recipe, path = run.recipe, run.folder / TEST
    if recipe.test == "none":
        return None
    said = {key: getattr(recipe, key) for key in ("image", "test", "test_scales", "test_flip")}
    how = json.loads(json.dumps({"step": step, **said}))
    known = said_in(path)
    if known.get("how") == how and "miou" in known:
        return float(known["miou"])
    network = run.trainer.judged
    with run.team.leader_first():
        begin_with(network, run.folder / BEST)
    value = tested(network, run.data, recipe, run.trainer.learner.device, run.team)
    if run.team.leads:
        write_text(path, json.dumps({"miou": value, "how": how}, indent=2))
    return value
