"""Trains networks of a study again: longer and with other seeds, for `hrsearch calibrate` and `hrsearch finalize`."""

from hrsearch.retrain.calibrate import calibrate
from hrsearch.retrain.finalize import finalize
from hrsearch.retrain.work import Done

__all__ = ["Done", "calibrate", "finalize"]
