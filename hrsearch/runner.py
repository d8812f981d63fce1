"""A runner: one YAML, a complete way to judge candidates."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hrsearch.arch import Arch
from hrsearch.document import Document, shipped
from hrsearch.errors import InputError, suggestion
from hrsearch.objective import objective_of, parse_limit

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Zoom = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Settings that a person writes: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Proxy(Section):
    """How a candidate is trained for its score: the data, the crop and the schedule."""

    data: str = "digits"
    image: Positive = 64  # side of the square training crop, pixels
    batch: Positive = 16
    steps: Positive = 160
    warmup: Annotated[int, Field(ge=0)] = 30  # steps of linear warm-up
    optimizer: Literal["muon", "adamw"] = "muon"  # Muon where channels mix, AdamW elsewhere; or AdamW alone
    rate: Annotated[float, Field(gt=0)] = 6e-3  # peak learning rate
    schedule: Literal["stable", "cosine"] = "stable"  # at the peak, then down in the last third; or a cosine
    decay: Annotated[float, Field(ge=0)] = 0.05  # weight decay of tensors of two or more dimensions
    clip: Annotated[float, Field(gt=0)] = 1.0  # gradient norm
    balance: Annotated[float, Field(ge=0, le=1)] = 0.5  # loss weight of a class is its frequency ** -balance
    drop_path: Rate = 0.0
    train_images: Positive = 4096
    val_images: Positive = 512
    zoom: Zoom = (1.0, 1.0)  # height, width: images are resized by it before the network sees them
    precision: Literal["fp32", "bf16"] = "fp32"


class Measure(Section):
    """How a candidate is timed: the deployment size, the batch and the engine."""

    image: tuple[Positive, Positive] = (512, 512)  # height, width
    batch: Positive = 1
    engine: str = "eager"
    threads: Positive = 1
    seconds: Annotated[float, Field(gt=0)] = 6.0  # time that one measurement may take at most


class Search(Section):
    """How candidates are proposed and what they are judged by."""

    sampler: str = "evolve"
    seed: int = 0
    draws: Positive = 16  # of the sampler, for one candidate: the one of which most is to be expected is trained
    control: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of the candidates that are drawn at random
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("score", "flops", "latency")
    limits: tuple[str, ...] = ()

    @field_validator("objectives")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            objective_of(name)
        if len(set(names)) < len(names):
            raise ValueError(f"each objective once, but got {', '.join(names)}")
        return names

    @field_validator("limits")
    @classmethod
    def _readable(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        for limit in limits:
            parse_limit(limit)
        return limits


class Engine(Section):
    """Where candidates are judged: in this process, or each in a process of its own."""

    kind: Literal["inline", "processes"] = "processes"
    workers: Annotated[int, Field(ge=0)] = 0  # 0: one per core (on CUDA: one per device)
    timeout_s: Annotated[float, Field(gt=0)] = 3600.0  # a candidate that takes longer fails


class Runner(Section):
    """A complete way to judge candidates."""

    device: Literal["cpu", "cuda"] = "cpu"
    proxy: Proxy = Proxy()
    measure: Measure = Measure()
    search: Search = Search()
    engine: Engine = Engine()


def proxy_of(runner: Runner, arch: Arch) -> Proxy:
    """The proxy for this network: where it has an image size of its own, the proxy's images are resized likewise.

    The scenes and the labels stay the same, so that scores at several image sizes can be compared.
    """
    if arch.image is None:
        return runner.proxy
    height, width = (own / usual for own, usual in zip(arch.image, runner.measure.image, strict=True))
    return runner.proxy.model_copy(update={"zoom": (height, width)})


def load_runner(path_or_name: str | Path) -> Runner:
    """The runner in a YAML file, or the shipped one of that name ("laptop", "smoke", "gpu")."""
    return validated(Document.read(shipped("runners", path_or_name)), Runner)


def validated(document: Document, model: type[Model]) -> Model:
    """The document as a `model`; what does not fit is an InputError that says where."""
    document.mapping((), document.data)
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise _explained(document, model, error) from None


def _explained(document: Document, model: type[BaseModel], error: ValidationError) -> InputError:
    first = error.errors()[0]
    where = tuple(first["loc"])
    if first["type"] == "extra_forbidden":
        section = model.model_fields[str(where[0])].annotation if len(where) > 1 else model
        known = section.model_fields if isinstance(section, type) and issubclass(section, BaseModel) else {}
        return document.error(where, f"key {where[-1]!r} does not exist; {suggestion(where[-1], known)}")
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    return document.error(where, f"{message}, but got {first['input']!r}")
