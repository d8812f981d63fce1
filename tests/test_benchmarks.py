"""What the benchmark of speed runs against each other computes the same."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def blocks() -> ModuleType:
    """benchmarks/blocks.py, which is a program and no package's module."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("blocks", BENCHMARKS / "blocks.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["blocks"] = module  # its dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


@pytest.mark.parametrize("name", ["hrformer_t", "hrvit_b1"])
def test_direct_implementations_compute_what_ours_do(blocks: ModuleType, name: str) -> None:
    """Two or three seconds each: whole networks in float64."""
    for pair in blocks.pairs(name):
        blocks.require_equal(pair, 64)
