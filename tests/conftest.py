"""One thread a process: the tests run on both cores, and threads of two processes spin on each other."""

import os

import pytest

from hrsearch.plugins import load_plugins

os.environ.setdefault("OMP_NUM_THREADS", "1")


# The files that take longest go first, so that no core ends with one of them while the other has nothing left.
LONG = (
    "test_cli.py",
    "test_readme.py",
    "test_search_driver.py",
    "test_export_formats.py",
    "test_storage.py",
    "test_style.py",
    "test_search_faults.py",
    "test_trust.py",
    "test_planning.py",
    "test_nets_contracts.py",
    "test_cost_memory.py",
    "test_train.py",
    "test_golden_hrnet.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))
    for item in items:
        if _interrupts_another(item):
            item.add_marker("long")


def _interrupts_another(item: pytest.Item) -> bool:
    """Every sampler goes on as uninterrupted, seconds each: CI asks all of them, a laptop ours and Optuna's first."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return parameters.get("sampler", "tpe") not in {"evolve", "tpe"} and "interrupted" in item.name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="a file of blocks to hold to the contracts, too")


def pytest_configure(config: pytest.Config) -> None:
    load_plugins(config.getoption("--plugin"))
