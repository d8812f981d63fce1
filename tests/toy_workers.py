"""What workers are asked to do in tests. Light, because every worker imports it."""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

READY: list[int] = []


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def prepare() -> None:
    """Leaves a mark that `prepared` reads."""
    READY.append(os.getpid())


def prepared() -> bool:
    """Whether `prepare` ran in this process, and in no other."""
    return {os.getpid()} == set(READY)


def add(first: int, second: int = 0) -> int:
    """The sum."""
    return first + second


def process() -> int:
    """Which process this is."""
    return os.getpid()


def threads() -> dict[str, str | None]:
    """How many threads numerical libraries are told to use."""
    return {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}


def gpu(seconds: float = 0.0) -> str | None:
    """Which GPU this worker sees."""
    time.sleep(seconds)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def variable(name: str) -> str | None:
    """What this worker reads in its environment."""
    return os.environ.get(name)


def kill_self() -> None:
    """What the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    """A segmentation fault."""
    ctypes.string_at(0)


def leave() -> None:
    """Ends the process and delivers nothing."""
    os._exit(3)


def divide() -> float:
    """Raises."""
    return 1 / 0


def unsendable() -> object:
    """Delivers what cannot travel."""
    return threading.Lock()


def large(size: int) -> bytes:
    """Delivers more than a pipe holds."""
    return b"x" * size


def stay(path: Path, seconds: float = 60.0) -> None:
    """Writes which process this is, and goes on for long."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)


def drive_and_wait(path: Path, kind: str = "processes") -> None:
    """A driver with two workers that stay; it is to be killed."""
    from hrsearch.runner import Engine
    from hrsearch.search.engines import engine_of
    from hrsearch.search.engines.setup import Setup

    if kind == "slurm":
        from hrsearch.search.engines import slurm

        slurm.RENEW_S = 0.2
    options = {"slurm": {"cluster": "local"}}.get(kind, {})
    engine = engine_of(Engine.model_validate({"kind": kind, "workers": 2, **options}), Setup(folder=path.parent))
    for _ in range(2):
        engine.submit(stay, path)
    time.sleep(60)


if __name__ == "__main__":
    drive_and_wait(Path(sys.argv[1]), *sys.argv[2:])
