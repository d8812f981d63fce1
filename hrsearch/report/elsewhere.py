"""The study on other devices: what `hrsearch measure` found, target by target."""

import math

import pandas as pd

from hrsearch.pick import value_of, winners
from hrsearch.report.figures import Scatter
from hrsearch.report.markup import Markup, element, figure_place
from hrsearch.report.steps import command_box
from hrsearch.report.winners import choice_of, table_of
from hrsearch.report.words import counted, plain, shown_of, study_argument
from hrsearch.study import Record
from hrsearch.targets import on_target, targets_of


def figures_of(record: Record) -> dict[str, Scatter]:
    """Score against latency for each target, by the name of its place in the page."""
    known = {target: on_target(record, target) for target in targets_of(record)}
    scored = {target for target, there in known.items() if any(value_of(t, "score") is not None for t in there.trained)}
    return {_place(target): Scatter(f"latency on {target}", "score", target) for target in known if target in scored}


def elsewhere(record: Record) -> Markup | None:
    """A figure and a front for each target."""
    fronts = ((target, on_target(record, target)) for target in targets_of(record))
    parts = [_target(record, target, there) for target, there in fronts if there.front()]
    return element("section", element("h2", "On other devices"), parts) if parts else None


def _target(record: Record, target: str, there: Record) -> Markup:
    place = _place(target)
    figure = figure_place(place, f"Score against latency on {target}")
    knee = winners(there).get("knee")
    choice = choice_of(there, knee, "knee") if knee else "knee"
    export = f"hrsearch export {study_argument(record)} --on {target} --pick {choice} --to winner/"
    words = element("p", " ".join(_words(record, target, there)))
    return element("div", element("h3", target), words, figure, table_of(there, target), command_box(export))


def _words(record: Record, target: str, there: Record) -> list[str]:
    how = targets_of(record)[target]
    where = f"{how['engine']} at {plain(how['image'])} on {how['device']}, threads: {how['threads']}"
    said = [f"{counted(len(there.trained), 'network')} measured again with {where}; nothing was retrained."]
    tau = _tau(record, there)
    if tau is not None:
        said.append(f"Order of the latencies there against those of the search: Kendall tau {tau:.2f}.")
    before, now = winners(record).get("knee"), winners(there).get("knee")
    if before and now:
        moved = f"moves from {before.name} to {now.name}" if before.number != now.number else f"stays {now.name}"
        said.append(f"The knee {moved} ({shown_of(now, 'score')} at {shown_of(now, 'latency')}).")
    return said


def _tau(record: Record, there: Record) -> float | None:
    here = {trial.number: value_of(trial, "latency") for trial in record.trained}
    pairs = pd.DataFrame([(here[trial.number], value_of(trial, "latency")) for trial in there.trained]).dropna()
    tau = float(pairs[0].corr(pairs[1], method="kendall")) if len(pairs) > 2 else math.nan
    return tau if math.isfinite(tau) else None  # a board's whole milliseconds may all be equal


def _place(target: str) -> str:
    return f"score_on_{target}"
