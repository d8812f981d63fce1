"""A runner: one YAML, a complete way to judge candidates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from hrsearch.arch import Arch
from hrsearch.document import Document, shipped
from hrsearch.errors import InputError, suggestion
from hrsearch.objective import objective_of, parse_limit
from hrsearch.registry import WORKERS, ZERO_COST

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Zoom = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
LONGEST_S = 2_000_000  # 23 days: the system waits for at most 2**31 milliseconds
DECAY = 0.35  # share of a stable schedule in which the learning rate falls to zero
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Settings that a person writes: unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


def trunk_of(steps: int) -> int:
    """The step of a stable schedule at which its decay begins: up to here a longer one is the same."""
    return int(steps * (1 - DECAY))


class Proxy(Section):
    """How a candidate is trained for its score: the data, the crop and the schedule."""

    data: str = "digits"
    image: Positive = 64  # side of the square training crop, pixels
    batch: Positive = 16
    steps: Positive = 160
    rungs: tuple[Positive, ...] = ()  # steps after which candidates are compared and most of them let go
    screen: str | None = None  # a zero-cost proxy by which they are compared before that, untrained
    warmup: Annotated[int, Field(ge=0)] = 30  # steps of linear warm-up
    optimizer: Literal["muon", "adamw"] = "muon"  # Muon where channels mix, AdamW elsewhere; or AdamW alone
    rate: Annotated[float, Field(gt=0)] = 6e-3  # peak learning rate
    schedule: Literal["stable", "cosine"] = "stable"  # at the peak, then down in the last third; or a cosine
    decay: Annotated[float, Field(ge=0)] = 0.05  # weight decay of tensors of two or more dimensions
    clip: Annotated[float, Field(gt=0)] = 1.0  # gradient norm
    balance: Annotated[float, Field(ge=0, le=1)] = 0.5  # loss weight of a class is its frequency ** -balance
    # What a score is: the task's metric (mIoU, top-1, PCK), or how likely the validation images' labels are to the
    # network, exp(-loss), which repeats better and tells more of long training.
    score: Literal["metric", "likelihood"] = "metric"
    drop_path: Rate = 0.0
    inherit: bool = False  # a candidate begins with what its nearest relative on the front has in common with it
    train_images: Positive = 4096
    val_images: Positive = 512
    zoom: Zoom = (1.0, 1.0)  # height, width: images are resized by it before the network sees them
    mirrors: bool = True  # images may be flipped; false where left and right mean something: arrows, signs, text
    augment: bool = False  # as in long training on own data; else images are moved and flipped a little
    precision: Literal["fp32", "bf16"] = "fp32"

    @model_validator(mode="after")
    def _climbable(self) -> "Proxy":
        ladder = [*self.rungs, self.steps]
        if ladder != sorted(set(ladder)):
            raise ValueError(f"rungs must grow and stay below steps ({self.steps}), got {list(self.rungs)}")
        if self.rungs and self.schedule != "stable":
            raise ValueError("rungs need schedule: stable, which can be gone on from before its decay")
        shortest, whose = (self.rungs[0], "the first rung's ") if self.rungs else (self.steps, "")
        most = trunk_of(shortest) if self.schedule == "stable" else shortest - 1
        if self.warmup > most:
            raise ValueError(f"{whose}{shortest} steps are too few for {self.warmup} of warm-up; warmup: {most} fits")
        if self.screen is not None:
            ZERO_COST[self.screen]
        return self

    @property
    def ladder(self) -> tuple[int, ...]:
        """Steps of training at every rung, the last one in full; 0 where candidates are screened untrained."""
        return (*(() if self.screen is None else (0,)), *self.rungs, self.steps)


class Measure(Section):
    """How a candidate is timed: the deployment size, the batch and the engine."""

    image: tuple[Positive, Positive] = (512, 512)  # height, width
    batch: Positive = 1
    engine: str = "eager"
    threads: Positive = 1
    seconds: Annotated[float, Field(gt=0)] = 6.0  # time that one measurement may take at most


class Search(Section):
    """How candidates are proposed and what they are judged by."""

    sampler: Literal["evolve", "gp", "nsga2", "nsga3", "random", "tpe"] = "evolve"
    seed: int = 0
    draws: Positive = 16  # of the sampler, for one candidate: the one of which most is to be expected is trained
    zero_cost: str | None = None  # a proxy that says of each draw, untrained, what goes into what is expected of it
    control: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of the candidates that are drawn at random
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = ("score", "flops", "latency")
    limits: tuple[str, ...] = ()
    eta: Annotated[float, Field(gt=1)] = 2.0  # of so many candidates at a rung one goes on to the next
    # What they are compared by there: their scores or their losses, beside their costs, or what each should
    # add to the front.
    rungs_by: Literal["score", "loss", "gain"] = "gain"
    # What the sampler is told of those that do not: the score that the last rung should give them, that of their own
    # rung as it is, or nothing.
    told: Literal["expected", "measured", "nothing"] = "expected"

    @field_validator("objectives")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            objective_of(name)
        if len(set(names)) < len(names):
            raise ValueError(f"each objective once, but got {', '.join(names)}")
        return names

    @field_validator("zero_cost")
    @classmethod
    def _exists(cls, kind: str | None) -> str | None:
        if kind is not None:
            ZERO_COST[kind]
        return kind

    @field_validator("limits")
    @classmethod
    def _readable(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        for limit in limits:
            parse_limit(limit)
        return limits


class Engine(Section):
    """Where candidates are judged: in this process, each in a process of its own, on a Ray cluster or as SLURM jobs."""

    kind: str = "processes"
    workers: Annotated[int, Field(ge=0, validate_default=True)] = 0  # candidates at a time; 0: as many as there is room
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_S)] = 3600.0  # a candidate that takes longer fails
    # The others are for the kinds that take them as keyword-only parameters (see `hrsearch.search.engines`).
    address: str | None = None  # of a running cluster, "auto" or host:port; without it, this machine alone
    cpus: Annotated[float, Field(gt=0)] = 1.0  # of one candidate
    gpus: Annotated[float | None, Field(ge=0)] = None  # of one candidate; 0.5: two share one. By default 1 on CUDA
    cluster: Literal["slurm", "local"] = "slurm"  # local: the same on this machine, to try it
    options: Mapping[str, str | int | float | bool] = {}  # submitit's: slurm_partition, slurm_account, mem_gb

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        WORKERS[kind]
        return kind

    @field_validator("address", "cpus", "gpus", "cluster", "options")
    @classmethod
    def _fits(cls, value: Any, info: ValidationInfo) -> Any:
        """An option of another kind would be overlooked; one that says what holds anyway is none."""
        name, kind = str(info.field_name), info.data.get("kind")
        if kind is not None and name not in WORKERS.options(kind) and value != cls.model_fields[name].default:
            kinds = [each for each in WORKERS if name in WORKERS.options(each)]
            raise ValueError(f"it is for kind {' and '.join(kinds)}, not for {kind}")
        if kind == "slurm" and name in ("cpus", "gpus") and value is not None and value != int(value):
            raise ValueError("SLURM gives whole ones")
        return value

    @field_validator("address")
    @classmethod
    def _joined(cls, address: str | None) -> str | None:
        if address and address.startswith("ray://"):
            raise ValueError("start the search on a machine of the cluster and write auto or host:port")
        return address

    @field_validator("workers")
    @classmethod
    def _counted(cls, workers: int, info: ValidationInfo) -> int:
        if info.data.get("kind") == "slurm" and not workers:
            raise ValueError("it should say how many jobs at a time")
        return workers


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
    """The runner in a YAML file, or the shipped one of that name ("laptop", "gpu", ...)."""
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
    got = "" if isinstance(first["input"], dict) else f", but got {first['input']!r}"  # a section says it itself
    return document.error(where, f"{message}{got}")
