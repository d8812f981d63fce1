"""Costs: exact parameters and FLOPs, measured latency, peak memory. An engine is one file, registered in ENGINES."""

from hrsearch.cost import compiled, cuda, eager, onnx
from hrsearch.cost.bill import bill_of
from hrsearch.cost.cuda import has_cuda
from hrsearch.cost.flops import cost
from hrsearch.cost.latency import device_of, measure, reference_time, require_engine
from hrsearch.cost.memory import peak_memory

__all__ = [
    "bill_of",
    "compiled",
    "cost",
    "cuda",
    "device_of",
    "eager",
    "has_cuda",
    "measure",
    "onnx",
    "peak_memory",
    "reference_time",
    "require_engine",
]
