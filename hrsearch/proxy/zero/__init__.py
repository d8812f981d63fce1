"""Zero-cost proxies: what an untrained network lets expect, from a few mini-batches. One file and one entry each.

A proxy maps a network and a `Probe` to a number, more is better. It may change the network's gradients and the
statistics of its batch norms, not its weights.
"""

from hrsearch.proxy.zero.naswot import naswot
from hrsearch.proxy.zero.probe import Probe, probe_of
from hrsearch.proxy.zero.synflow import synflow
from hrsearch.proxy.zero.zico import zico

__all__ = ["Probe", "naswot", "probe_of", "synflow", "zico"]
