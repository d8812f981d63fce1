"""One thread a process: the tests run on both cores, and threads of two processes spin on each other."""

import os

import pytest

from hrsearch.plugins import load_plugins

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--plugin", action="append", default=[], help="a file of blocks to hold to the contracts, too")


def pytest_configure(config: pytest.Config) -> None:
    load_plugins(config.getoption("--plugin"))
