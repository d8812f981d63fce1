"""Costs: exact parameters and FLOPs, measured latency. An engine is one file here, registered in ENGINES."""

from hrsearch.cost import compiled, cuda, eager, onnx
from hrsearch.cost.bill import bill_of
from hrsearch.cost.cuda import has_cuda
from hrsearch.cost.flops import cost
from hrsearch.cost.latency import measure, reference_time

__all__ = ["bill_of", "compiled", "cost", "cuda", "eager", "has_cuda", "measure", "onnx", "reference_time"]
