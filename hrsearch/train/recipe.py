"""A recipe: one YAML beside an exported network, how it is trained in earnest."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from hrsearch.document import Document
from hrsearch.errors import InputError
from hrsearch.runner import Positive, Proxy, Rate, Section, Zoom, validated

LONGER = 20  # times the proxy's steps


class Recipe(Section):
    """How an exported network is trained: the data, the crop and the schedule."""

    data: str = "digits"  # or a folder
    image: Positive = 64  # side of the square images, pixels
    train_images: Positive = 16384  # at most
    val_images: Positive = 512  # at most
    batch: Positive = 16
    steps: Positive = 3000
    warmup: Annotated[int, Field(ge=0)] = 150  # steps of linear warm-up
    optimizer: Literal["muon", "adamw"] = "muon"  # Muon where channels mix, AdamW elsewhere; or AdamW alone
    rate: Annotated[float, Field(gt=0)] = 2e-3  # peak learning rate
    schedule: Literal["cosine", "stable"] = "cosine"  # how the rate falls after the warm-up
    decay: Annotated[float, Field(ge=0)] = 0.05  # weight decay of tensors of two or more dimensions
    clip: Annotated[float, Field(gt=0)] = 1.0  # gradient norm
    balance: Annotated[float, Field(ge=0, le=1)] = 0.5  # loss weight of a class is its frequency ** -balance
    zoom: Zoom = (1.0, 1.0)  # height, width: images are resized by it before the network sees them
    augment: Literal["auto", "segment", "classify", "pose", "none"] = "auto"  # the task's for a folder, else none
    smoothing: Rate = 0.0  # of labels to classify: the share of each that is spread over all classes
    drop_path: Rate = 0.1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    seed: int = 0
    start: Literal["weights", "scratch"] = "weights"  # the search's weights where the folder holds them, or none
    every: Positive = 250  # steps between validations, each with a checkpoint


def default_recipe(proxy: Proxy, data: str) -> Recipe:
    """The proxy's training on `data`, made long: a cosine from a lower rate, which is kept up for longer."""
    steps = LONGER * proxy.steps
    return Recipe(
        data=data,
        image=proxy.image,
        train_images=4 * proxy.train_images,
        val_images=proxy.val_images,
        batch=proxy.batch,
        optimizer=proxy.optimizer,
        steps=steps,
        warmup=steps // 20,
        rate=proxy.rate / 3,
        decay=proxy.decay,
        clip=proxy.clip,
        balance=proxy.balance,
        zoom=proxy.zoom,
        precision=proxy.precision,
        every=max(steps // 20, 1),
    )


def load_recipe(path: Path, *, data: str | None = None, steps: int | None = None) -> Recipe:
    """The recipe in a YAML file, with other data or another number of steps if those are given."""
    recipe = validated(Document.read(path), Recipe)
    changes = {key: value for key, value in {"data": data, "steps": steps}.items() if value is not None}
    try:
        return Recipe.model_validate(recipe.model_dump() | changes)
    except ValidationError:
        raise InputError(f"steps: at least 1, but got {steps}") from None
