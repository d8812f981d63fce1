"""The funnel of the rungs: how many were judged at each, how many went on, and whether a rung foretold the next."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hrsearch.report.markup import Markup, element, sign
from hrsearch.report.words import NOTHING
from hrsearch.study import Record, Trial

TOLD = (
    "At every rung the candidates are compared at equal training, given their costs, and the better ones go on. "
    "Kendall tau between two rungs says how well the shorter training ordered those that went on: 1 is the same order, "
    "0 is chance. Those that went on were chosen, which makes it lower than it would be over all."
)


def funnel(record: Record, figure: Sequence[Markup]) -> Markup | None:
    """A row for each rung, with the learning curves beside it; None for a study without rungs."""
    trials = [trial for trial in record.trials if trial.attributes.get("rungs")]
    last = max((len(trial.attributes["rungs"]) for trial in trials), default=0)
    if last < 2:
        return None
    heads = ("Rung", "Steps", "Judged", "Went on", "Let go", "Waiting", "Kendall tau to the next")
    head = element("tr", [element("th", name, scope="col") for name in heads])
    table = element("table", element("thead", head), element("tbody", [_row(trials, rung) for rung in range(last)]))
    box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="The rungs")
    names = {"front": "trained in full", "judged": "went no further", "published": "published network"}
    key = element("p", [sign(role, "●", text) for role, text in names.items()], class_="key")
    title = element("h2", "The funnel of the rungs")
    return element("section", title, element("p", TOLD), box, key if figure else None, figure)


def _row(trials: Sequence[Trial], rung: int) -> Markup:
    judged = [trial for trial in trials if len(trial.attributes["rungs"]) > rung]
    on = [trial for trial in judged if len(trial.attributes["rungs"]) > rung + 1]
    ended = [trial for trial in judged if trial not in on]
    cells: list[str | int] = [
        _training(judged[0].attributes["rungs"][rung]) if judged else NOTHING,
        len(judged),
        len(on),
        sum(trial.state == "stopped" for trial in ended),
        sum(trial.state == "waiting" for trial in ended),
        tau_text(tau_between(on, rung)),
    ]
    return element("tr", element("th", str(rung), scope="row"), [element("td", cell) for cell in cells])


def _training(score: Mapping[str, Any]) -> str:
    return f"{score['steps']:,}" if score["steps"] else f"0 ({score['metric']})"


def tau_between(trials: Sequence[Trial], rung: int) -> float | None:
    """Kendall tau between the scores of a rung and the next; None for fewer than three trials or equal scores."""
    pairs = pd.DataFrame([[score["value"] for score in t.attributes["rungs"][rung : rung + 2]] for t in trials])
    if len(pairs) < 3 or min(pairs.nunique()) < 2:
        return None
    return float(pairs[0].corr(pairs[1], method="kendall"))


def tau_text(tau: float | None) -> str:
    """Two digits."""
    return NOTHING if tau is None else f"{tau:.2f}"
