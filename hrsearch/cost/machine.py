"""The machine as far as it bears on a time: its processor, what else it does, how fast its clock runs."""

import os
import platform
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")


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
