"""What this installation can do, and what is missing for what: for `hrsearch doctor`."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

# Nothing else of hrsearch up here: where a package is missing, this has to run all the same.

State = Literal["ok", "missing", "broken"]

NEEDED = {  # the packages without which nothing works, and what Python calls them
    "torch": "torch",
    "optuna": "optuna",
    "sqlalchemy": "sqlalchemy",
    "pandas": "pandas",
    "pyyaml": "yaml",
    "tqdm": "tqdm",
    "pydantic": "pydantic",
    "typer": "typer",
    "numpy": "numpy",
    "scikit-learn": "sklearn",
    "pillow": "PIL",
    "safetensors": "safetensors",
}
OPTIONAL = {  # what they are for: the packages, and how they come
    "latency engine onnx, export to ONNX": (("onnx", "onnxruntime", "onnxscript"), "pip install 'hrsearch[onnx]'"),
    "many machines with Ray": (("ray",), "pip install 'hrsearch[ray]'"),
    "many machines with SLURM": (("submitit",), "pip install 'hrsearch[slurm]'"),
    "a study in PostgreSQL": (("psycopg",), "pip install 'hrsearch[postgresql]'"),
    "a study in the browser while it runs": (("optuna-dashboard",), "pip install optuna-dashboard"),
    "curves of a training": (("tensorboard",), "pip install 'hrsearch[tensorboard]'"),
    "the check of a timm export": (("timm",), "pip install timm"),
    "the check of an mmseg export": (("mmengine-lite",), "pip install mmengine-lite"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `needed` says whether hrsearch works without it."""

    what: str
    state: State
    words: str
    needed: bool = True


def examined() -> Iterator[Finding]:
    """Look at the installation, the machine and every engine, the cheapest first."""
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "broken", sys.version.split()[0])
    packages = [_tried(package, lambda package=package: _imported(package)) for package in NEEDED]  # type: ignore[misc]
    yield from packages
    if all(package.state == "ok" for package in packages):
        yield _machine()
        yield _tried("built-in data", _data)
        yield _tried("a network", _network)
        yield _cuda()
        yield from _engines()
    yield from (_optional(what, *found) for what, found in OPTIONAL.items())


def line_of(finding: Finding) -> str:
    """The finding in a line: `ok       torch: 2.13.0`."""
    return f"{finding.state:<8} {finding.what}: {finding.words}"


def _imported(package: str) -> str:
    """Its version; it is imported, which tells of a library that is missing as well."""
    try:
        found = version(package)
    except PackageNotFoundError:
        raise ImportError(f"not installed; pip install {package}") from None
    import_module(NEEDED[package])
    return found


def _optional(what: str, packages: tuple[str, ...], how: str) -> Finding:
    try:
        words = ", ".join(f"{package} {_version(package)}" for package in packages)
    except PackageNotFoundError:
        return Finding(what, "missing", how, needed=False)
    return Finding(what, "ok", words, needed=False)


def _version(package: str) -> str:
    """Its version, in whole where only a lighter half of it is asked for."""
    with suppress(PackageNotFoundError):
        return version(package)
    return version(package.removesuffix("-lite"))


def _machine() -> Finding:
    from hrsearch.cost.machine import load, processor

    free = shutil.disk_usage(Path.cwd()).free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = f"{cores} cores of {processor()}, {memory:.0f} GiB, load {load()}, {free:.0f} GiB free here"
    return Finding("machine", "ok" if free > 1 else "broken", words)


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("GPU", "missing", "none that torch can use; CPU runners work without", needed=False)
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    return Finding("GPU", "ok", names, needed=False)


def _engines() -> Iterator[Finding]:
    """Every latency engine, tried on a layer; `compiled` is only looked for, for it takes minutes, those on a GPU only
    where there is one."""
    import torch

    from hrsearch.registry import ENGINES

    layer, example = torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 16, 16)
    on_gpu = [name for name in ENGINES if name.startswith("cuda") and not torch.cuda.is_available()]
    if on_gpu:
        yield Finding(f"latency engines {', '.join(on_gpu)}", "missing", "need a GPU that torch can use", needed=False)
    for name in ENGINES:
        if name in on_gpu:
            continue
        if name == "compiled":
            compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
            state: State = "ok" if compiler else "missing"
            yield Finding("latency engine compiled", state, compiler or "needs a C++ compiler", needed=False)
        else:
            yield _tried(f"latency engine {name}", lambda name=name: _ran(ENGINES[name](layer, example)), False)  # type: ignore[misc]


def _ran(run: Callable[[], object]) -> str:
    run()
    return "runs"


def _data() -> str:
    from hrsearch.proxy.data import load_dataset

    data = load_dataset("six_digits", image=32, train_images=8, val_images=4)
    return f"{len(data.classes)} classes"


def _network() -> str:
    import torch

    from hrsearch.build import build
    from hrsearch.space import load_arch

    network = build(load_arch("hirivit_s"), classes=4).eval()
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64))
    with tempfile.TemporaryDirectory(dir=Path.cwd()):
        return "hirivit_s is built and runs; this folder can be written"


def _tried(what: str, attempt: Callable[[], str], needed: bool = True) -> Finding:
    """Whether it works; the reason in one line where it does not."""
    try:
        return Finding(what, "ok", attempt(), needed)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(what, "broken" if needed else "missing", reason, needed)
