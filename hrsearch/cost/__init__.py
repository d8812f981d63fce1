"""Costs: exact parameters and FLOPs, measured latency. An engine is one file here, registered in ENGINES."""

from hrsearch.cost import cuda, eager
from hrsearch.cost.cuda import has_cuda
from hrsearch.cost.flops import cost
from hrsearch.cost.latency import measure, reference_time

__all__ = ["cost", "cuda", "eager", "has_cuda", "measure", "reference_time"]
