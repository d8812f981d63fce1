"""How well the parts of measured networks told the latency of the next ones: forecasts held to account."""

import math

import pandas as pd

from hrsearch.pick import value_of
from hrsearch.report.words import counted
from hrsearch.study import Record

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
