"""The machine as far as it bears on a time: its processor, what else it does, how fast its clock runs."""

import ctypes
import os
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
MOST_KEPT = (1 << 31) - 1  # bytes of freed memory on top of the heap; more does not fit mallopt's argument
LARGEST_KEPT = 1 << 25  # bytes of a block: glibc's greatest


@cache
def processor() -> str:
    """The processor's name, as the system tells it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return str(names[0]).strip() if names else platform.processor() or "cpu"


def load() -> float | None:
    """Processes that wanted to run, on the mean of the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def clock_mhz() -> float | None:
    """The fastest core's clock as the system reads it now; None where it does not say (many virtual machines)."""
    found = [float(text) for text in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _cpuinfo(), re.MULTILINE)]
    return max(found) if found else None


@cache
def keep_freed_memory() -> None:
    """Freed memory stays with this process, where the C library is glibc; elsewhere nothing happens.

    Otherwise glibc decides by what the process freed before whether a map of a few MB comes out of the heap or fresh
    from the system, zeroed page by page: one and the same network took 26 ms in a fresh process and 13 ms in one that
    had run a larger network.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library without a name
        return
    mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(TRIM_THRESHOLD, MOST_KEPT)


def version_of(package: str) -> str:
    """The installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpuinfo() -> str:
    try:
        return CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return ""
