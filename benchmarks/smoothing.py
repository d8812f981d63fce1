"""Does a score tell more of long training once it is weighed with those of networks like it?

    python benchmarks/smoothing.py reports/hrvit-hard --times 20

Takes a study whose networks `hrsearch calibrate --times 20` has trained. To all its scores in full the search's own
Gaussian process is fitted; what it says of a network that it was fitted to is the network's score, drawn towards those
of its likes. Prints Kendall's tau of either to the long training, of all that were trained in full and of the study's
best quarter. Unweighed, unlike the trust card's.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hrsearch.search.surrogate import features, forecast, weights_of
from hrsearch.space import Space
from hrsearch.study import Record, Trial, read_study
from hrsearch.trust.card import quarters
from hrsearch.trust.repeats import CALIBRATION, rungs_of, scores_of


def smoothed(record: Record) -> dict[int, float]:
    """The scores of the drawn networks that were trained in full, by trial, each drawn towards its likes."""
    knobs = Space.parse(record.attributes["space"]).knobs
    last = max(max(rungs_of(trial)) for trial in record.trials if rungs_of(trial))
    drawn = [trial for trial in record.trials if trial.knobs and last in rungs_of(trial)]
    rows = features(
        [trial.knobs for trial in drawn],
        {name: knob.values for name, knob in knobs.items()},
        [[trial.attributes["params"], trial.attributes["flops"]] for trial in drawn],
        [trial.attributes["arch"] for trial in drawn],
    )
    means = forecast(rows, [value_of(trial) for trial in drawn], rows, weights_of(len(knobs))).mean
    return {trial.number: float(mean) for trial, mean in zip(drawn, means, strict=True)}


def value_of(trial: Trial) -> float:
    """The score of its last rung."""
    return float(trial.attributes["score"]["value"])


def lines(record: Record, times: int) -> Sequence[str]:
    """A table of the networks, and both taus over them and over those of the best quarter."""
    long = scores_of(record, CALIBRATION, times)
    likes = smoothed(record)
    found = pd.DataFrame(
        {
            "score": {trial.number: value_of(trial) for trial in record.trials if trial.number in likes},
            "smoothed": likes,
            "long": {number: statistics.mean(one["value"] for one in each.values()) for number, each in long.items()},
        }
    ).dropna()
    best = found[found.index.isin([trial.number for trial in quarters(record)[0]])]
    told = [found.sort_values("long").round(4).to_string()]
    for name, part in (("in full", found), ("of the best quarter", best)):
        taus = [f"{column} {part[column].corr(part.long, method='kendall'):.2f}" for column in ("score", "smoothed")]
        told.append(f"tau to long training of {len(part)} {name}: {', '.join(taus)}")
    return told


def main() -> None:
    """Print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, nargs="+")
    parser.add_argument("--times", type=int, default=20, help="as long as the proxy, of the calibration")
    asked = parser.parse_args()
    for folder in asked.study:
        print(f"{folder}\n" + "\n".join(lines(read_study(folder), asked.times)))


if __name__ == "__main__":
    main()
