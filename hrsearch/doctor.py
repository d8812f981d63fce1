"""What this installation can do, and what is missing for what: for `hrsearch doctor`."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hrsearch.cost.machine import load, processor, version_of

State = Literal["ok", "missing", "broken"]

# what it is for: the package, and how it comes
OPTIONAL = {
    "latency engine onnx, export to ONNX": ("onnxruntime", "pip install onnx onnxruntime onnxscript"),
    "many machines with Ray": ("ray", "pip install ray"),
    "many machines with SLURM": ("submitit", "pip install submitit"),
    "a study in PostgreSQL": ("psycopg", "pip install 'psycopg[binary]' sqlalchemy"),
    "a study in the browser while it runs": ("optuna-dashboard", "pip install optuna-dashboard"),
    "curves of a training": ("tensorboard", "pip install tensorboard"),
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
    for package in ("torch", "optuna", "plotly"):
        yield Finding(package, "ok", version_of(package))
    yield _machine()
    yield _tried("built-in data", _data)
    yield _tried("a network", _network)
    yield _cuda()
    yield from _engines()
    for what, (package, how) in OPTIONAL.items():
        found = version_of(package)
        state: State = "missing" if found == "not installed" else "ok"
        yield Finding(what, state, f"{package} {found}" if state == "ok" else how, needed=False)


def line_of(finding: Finding) -> str:
    """The finding in a line: `ok       torch: 2.13.0`."""
    return f"{finding.state:<8} {finding.what}: {finding.words}"


def _machine() -> Finding:
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
    """Every latency engine, tried on a layer; `compiled` is only looked for: it takes minutes."""
    import torch

    from hrsearch.registry import ENGINES

    layer, example = torch.nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 16, 16)
    for name in ENGINES:
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
