"""How well what was told before measuring and training was borne out: forecasts held to account."""

import math
from collections import Counter

import pandas as pd

from hrsearch.pick import value_of
from hrsearch.report.words import counted
from hrsearch.study import Record, untrained_of

FEWEST = 5  # forecasts that can be judged


def forecasts(record: Record) -> str:
    """The error of the forecasts in words, and what they refused; empty where there were too few."""
    pairs = [(trial.attributes.get("expected_ms"), value_of(trial, "latency")) for trial in record.trials]
    table = pd.DataFrame([pair for pair in pairs if None not in pair], columns=["expected", "measured"], dtype=float)
    if len(table) < FEWEST:
        return ""
    error = (table["expected"] / table["measured"] - 1).abs()
    tau = table["expected"].corr(table["measured"], method="kendall")
    said = (
        f"The latency of {len(table)} networks was forecast from the parts of earlier ones before it was measured: "
        f"wrong by {error.median():.0%} in the median, by {error.quantile(0.9):.0%} or less for nine of ten"
        f"{f', Kendall tau {tau:.2f}' if math.isfinite(tau) else ''}."
    )
    spared = sum("cannot hold" in str(trial.attributes.get("reason")) for trial in record.trials)
    if spared:
        said += f" {counted(spared, 'candidate')} far beyond the limit were refused by it without being built."
    return f"{said} No figure of this page is a forecast."


def foretold(record: Record) -> str:
    """How well a zero-cost proxy that the search asks ordered what was trained in full; empty where there was none."""
    kinds = Counter(kind for trial in record.trained for kind in trial.attributes.get("zero_cost") or {})
    kind = max(kinds, key=lambda one: kinds[one], default=None)
    pairs = [(untrained_of(trial.attributes, kind), value_of(trial, "score")) for trial in record.trained]
    table = pd.DataFrame([pair for pair in pairs if None not in pair], columns=["said", "score"], dtype=float)
    tau = table["said"].corr(table["score"], method="kendall") if len(table) >= FEWEST else math.nan
    if not math.isfinite(tau):
        return ""
    return (
        f"What {kind} says of an untrained network goes into what is expected of each draw: it orders the {len(table)} "
        f"that were trained in full by their scores with Kendall tau {tau:.2f}. Its own choices are among them."
    )
