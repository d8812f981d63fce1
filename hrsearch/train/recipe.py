"""A recipe: one YAML, how a network is trained in earnest. Beside an exported network, or a paper's by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from hrsearch.arch import Arch
from hrsearch.document import Document, Keys, dotted, shipped, shipped_folder
from hrsearch.errors import InputError, suggestion
from hrsearch.proxy.data import is_made
from hrsearch.runner import Positive, Proxy, Rate, Section, Zoom, validated
from hrsearch.task import TASKS

LONGER = 20  # times the proxy's steps
ALL = 1_000_000_000  # images of a folder: however many there are
FAMILIES = ("hrvit", "hrformer", "hrnet", "hirivit")
SETTINGS = "--set"  # what errors call the settings of a call

Undecayed = Literal["vectors", "layer_norms", "positions"]


class Recipe(Section):
    """How an exported network is trained: the data, the crop and the schedule."""

    data: str = "digits"  # or a folder
    image: Positive = 64  # side of the square images, pixels
    train_images: Positive = 16384  # at most
    val_images: Positive = 512  # at most
    batch: Positive = 16  # images of a step, those of all processes together
    accumulate: Positive = 1  # in so many parts one after the other, which needs less memory; batch norms see a part
    steps: Positive = 3000
    epochs: Annotated[float, Field(gt=0)] | None = None  # instead of steps
    warmup: Annotated[int, Field(ge=0)] = 150  # steps of linear warm-up
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None  # instead of warmup
    optimizer: Literal["muon", "adamw"] = "muon"  # Muon where channels mix, AdamW elsewhere; or AdamW alone
    rate: Annotated[float, Field(gt=0)] = 2e-3  # peak learning rate
    head_rate: Annotated[float, Field(gt=0)] = 1.0  # the head learns at so many times the rate (with adamw)
    schedule: Literal["cosine", "poly", "step", "stable"] = "cosine"  # how the rate falls after the warm-up
    power: Annotated[float, Field(gt=0)] = 1.0  # of poly
    milestones: tuple[Rate, ...] = ()  # shares of the training after which step takes a tenth of the rate
    floor: Rate = 0.0  # share of the peak to which cosine and poly fall
    cooldown: Rate = 0.0  # share of the training, at its end, that is spent at the floor
    decay: Annotated[float, Field(ge=0)] = 0.05  # weight decay
    undecayed: tuple[Undecayed, ...] = ("vectors",)  # of biases and norms; layer norms alone; tables of positions
    clip: Annotated[float, Field(gt=0)] = 1.0  # gradient norm
    balance: Annotated[float, Field(ge=0, le=1)] = 0.5  # loss weight of a class is its frequency ** -balance
    ohem: Rate = 0.0  # to segment: pixels count whose class has less than this probability; 0: all do
    ohem_keep: Positive = 100_000  # and the least probable others, up to so many an image
    zoom: Zoom = (1.0, 1.0)  # height, width: images are resized by it before the network sees them
    augment: Literal["auto", "segment", "classify", "pose", "none"] = "auto"  # the task's for a folder, else none
    mirrors: bool = True  # images may be flipped; false where left and right mean something: arrows, signs, text
    smoothing: Rate = 0.0  # of labels to classify: the share of each that is spread over all classes
    erasing: Rate = 0.0  # share of augmented images of which a part becomes noise
    rotation: Annotated[float, Field(ge=0)] = 45.0  # of augmented persons: its deviation, degrees; at most twice that
    rescale: Rate = 0.35  # of augmented persons: the deviation of their size, at most that
    drop_path: Rate = 0.1
    ema: Rate = 0.0  # decay of an average of the weights, which is validated and kept as the best; 0: none
    distill: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the loss in which that average teaches; 0: none
    temperature: Annotated[float, Field(gt=0)] = 1.0  # of both softmaxes then
    distill_as: Literal["share", "sum"] = "share"  # (1 - distill) * loss + distill * teaching, or loss + ...
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    checkpointing: bool = False  # blocks are computed again in the backward pass: less memory, more time
    compile: bool = False  # by torch.compile
    sync_bn: bool = True  # batch norms see the images of all processes
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    start: str = "weights"  # the search's weights where the folder holds them; scratch; or a file, released or own
    every: Positive = 250  # steps between validations, each with a checkpoint
    patience: Annotated[int, Field(ge=0)] = 0  # stop after so many validations without a better one; 0: never
    tensorboard: bool = False  # the rows of metrics.csv for TensorBoard, too
    test: Literal["none", "whole", "slide"] = "none"  # the best, once, on whole images; slide: windows of `image`
    test_scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (1.0,)
    test_flip: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        if self.distill and not self.ema:
            raise ValueError("distill needs the average that teaches: give ema, such as 0.9998")
        if self.head_rate != 1 and self.optimizer != "adamw":
            raise ValueError("head_rate needs optimizer: adamw")
        if self.compile and self.checkpointing:
            raise ValueError("compile and checkpointing do not go together; choose one")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch {self.batch}, got {self.accumulate}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule: step needs milestones, such as [0.8, 0.95]")
        return self

    def at_once(self, processes: int) -> int:
        """Images that one of so many processes sees at a time."""
        return self.batch // (processes * self.accumulate)

    def timed(self, images: int) -> "Recipe":
        """The recipe in steps, for so many training images; an InputError where all of them would be warm-up."""
        epoch = images / self.batch
        changes: dict[str, int] = {}
        if self.epochs is not None:
            changes["steps"] = max(round(self.epochs * epoch), 1)
        if self.warmup_epochs is not None:
            changes["warmup"] = round(self.warmup_epochs * epoch)
        found = self.model_copy(update={**changes, "epochs": None, "warmup_epochs": None})
        if found.warmup >= found.steps:
            whose = f"{found.warmup:,} steps of warm-up are not over within the training's {found.steps:,}"
            raise InputError(f"warmup: {whose}; {found.steps // 10:,} would fit, or more steps or epochs")
        return found


class Shipped(Recipe):
    """A paper's recipe for a task, and where other families' papers differ."""

    task: Literal["segment", "classify", "pose"]
    families: dict[Literal["hrvit", "hrformer", "hrnet", "hirivit"], dict[str, Any]] = Field(default_factory=dict)


def default_recipe(proxy: Proxy, data: str) -> Recipe:
    """The proxy's training on `data`, made long: a cosine from a lower rate, which is kept up for longer."""
    steps = LONGER * proxy.steps
    return Recipe(
        data=data,
        image=proxy.image,
        train_images=4 * proxy.train_images if is_made(data) else ALL,
        val_images=proxy.val_images if is_made(data) else ALL,
        batch=proxy.batch,
        optimizer=proxy.optimizer,
        steps=steps,
        warmup=steps // 20,
        rate=proxy.rate / 3,
        decay=proxy.decay,
        clip=proxy.clip,
        balance=proxy.balance,
        zoom=proxy.zoom,
        mirrors=proxy.mirrors,
        precision=proxy.precision,
        every=max(steps // 20, 1),
    )


def load_recipe(
    path: Path,
    *,
    named: str | None = None,
    arch: Arch | None = None,
    task: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe in a folder's file, over it what a paper's (`named`, or a YAML file) says, over both the `settings`.

    A paper's recipe says most of it for the family of `arch`; the data, for one, stays the folder's. Where `steps` or
    `epochs` are set below what the recipe says, the warm-up shrinks with them.
    """
    own = Document.read(path) if path.is_file() or named is None else None
    document = own or Document.parse("{}", path)
    recipe = validated(document, Recipe)
    if named is not None:
        recipe = _over(recipe, shipped("recipes", named), family_of(arch) if arch else None, task)
    elif settings and is_made(recipe.data) and not is_made(str(settings.get("data") or recipe.data)):
        recipe = recipe.model_copy(update={"train_images": ALL, "val_images": ALL})  # limits of what is made here
    return _set(recipe, settings or {})


def require_data(recipe: Recipe, named: str, task: str) -> None:
    """An InputError where a paper's recipe, which is for its real data, would train on what is made here instead."""
    is_papers = shipped("recipes", named).resolve().parent == shipped_folder("recipes").resolve()
    if is_papers and is_made(recipe.data):
        told = f"is for real data, but train.yaml has {recipe.data!r}"
        raise InputError(f"recipe {named!r}: {told}; give --data, {TASKS[task].folder}, or --data {recipe.data} to try")


def family_of(arch: Arch) -> str | None:
    """The family whose link makes the last stage; None for one of another kind, such as of a plug-in."""
    kind = "hirivit" if arch.stages[-1].link.kind in ("irds", "hr_stem") else arch.stages[-1].link.kind
    return kind if kind in FAMILIES else None


def _over(recipe: Recipe, path: Path, family: str | None, task: str | None) -> Recipe:
    document = Document.read(path)
    data = document.mapping((), document.data)
    if not {"task", "families"} & data.keys():  # a recipe of a person's own
        validated(document, Recipe)
        return validated(Document(path, document.text, _with(recipe.model_dump(), data), document.lines), Recipe)
    found = validated(document, Shipped)
    if task not in (None, found.task):
        raise InputError(f"{path}: is for task {found.task!r}, but this network's is {task!r}; choose another recipe")
    theirs: dict[str, Any] = found.families.get(family, {}) if family else {}  # type: ignore[call-overload]
    lines: dict[Keys, int] = {**document.lines}
    lines |= {(key,): lines["families", str(family), key] for key in theirs}
    base = {key: value for key, value in data.items() if key not in ("task", "families")}
    merged = _with(_with(recipe.model_dump(), base), theirs)
    return validated(Document(path, document.text, merged, lines), Recipe)


def _with(recipe: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with these changes: what they count in steps no longer counts in epochs, which would go before."""
    counts = {"steps": "epochs", "warmup": "warmup_epochs"}
    return {**recipe, **{epochs: None for steps, epochs in counts.items() if steps in changes}, **changes}


def _set(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    changes = dict(settings)
    if changes.get("epochs") is not None:
        changes = _shortened_by_epochs(recipe, changes) | changes
    elif "steps" in changes:
        changes = _shortened(recipe, changes["steps"]) | changes
    unknown = [key for key in changes if key not in Recipe.model_fields]
    if unknown:
        raise InputError(f"{unknown[0]}: a recipe has no such key; {suggestion(unknown[0], Recipe.model_fields)}")
    try:
        return Recipe.model_validate(_with(recipe.model_dump(), changes))
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        key = dotted(first["loc"])
        raise InputError(f"{key}: {message}, but got {first['input']!r}" if key else message) from None


def _shortened(recipe: Recipe, steps: Any) -> dict[str, Any]:
    """What steps of a call's own change: no epochs any more, and the same share of warm-up if they are fewer."""
    if not isinstance(steps, int):
        return {}
    if recipe.epochs is not None:
        # How many steps the epochs are, only the data says: a warm-up in steps stays, up to a tenth.
        warmup = (
            min(recipe.warmup, steps // 10)
            if recipe.warmup_epochs is None
            else round(steps * recipe.warmup_epochs / recipe.epochs)
        )
        return {"epochs": None, "warmup_epochs": None, "warmup": warmup}
    if recipe.warmup_epochs is not None:
        return {}
    return {"warmup": recipe.warmup * min(steps, recipe.steps) // recipe.steps}


def _shortened_by_epochs(recipe: Recipe, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What epochs of a call's own change: the same share of warm-up if they are fewer, or if it was one of steps."""
    epochs = changes["epochs"]
    if not isinstance(epochs, int | float) or {"warmup", "warmup_epochs"} & changes.keys():
        return {}
    if recipe.epochs is None:
        return {} if recipe.warmup_epochs is not None else {"warmup_epochs": epochs * recipe.warmup / recipe.steps}
    share = min(epochs / recipe.epochs, 1.0)
    if recipe.warmup_epochs is None:
        return {"warmup": int(recipe.warmup * share)}
    return {"warmup_epochs": recipe.warmup_epochs * share}


def settings_of(texts: list[str]) -> dict[str, Any]:
    """`key=value` of the command line, the value as YAML has it; else an InputError."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not key.strip() or not value.strip():
            raise InputError(f"{SETTINGS} {text!r} cannot be read; write KEY=VALUE, such as {SETTINGS} batch=8")
    return found
