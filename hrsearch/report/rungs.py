"""The funnel of the rungs: how many were judged at each, how many went on, and whether a rung foretold the next."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hrsearch.report.figures import RUNG_ROLES
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
    heads = ("Rung", "Steps", "Judged", "Of all judged", "Went on", "Let go", "Waiting", "Kendall tau to the next")
    head = element("tr", [element("th", name, scope="col") for name in heads])
    rows = [_row(trials, rung) for rung in range(last)]
    table = element("table", element("thead", head), element("tbody", rows), class_="rungs")
    box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="The rungs")
    bars = element("p", sign("front", "■", "went on, or to the end"), sign("judged", "■", "let go"), class_="key")
    key = element("p", [sign(role, "●", text) for role, text in RUNG_ROLES.items()], class_="key")
    title = element("h2", "The funnel of the rungs")
    return element("section", title, element("p", TOLD), bars, box, key if figure else None, figure)


def _row(trials: Sequence[Trial], rung: int) -> Markup:
    judged = [trial for trial in trials if len(trial.attributes["rungs"]) > rung]
    on = [trial for trial in judged if len(trial.attributes["rungs"]) > rung + 1]
    ended = Counter(trial.state for trial in judged if len(trial.attributes["rungs"]) == rung + 1)
    cells: list[str | int | Markup] = [
        _training(judged[0].attributes["rungs"][rung]) if judged else NOTHING,
        len(judged),
        _bars(len(on) + ended["trained"], ended["stopped"], len(trials)),
        len(on),
        ended["stopped"],
        ended["waiting"],
        tau_text(tau_between(on, rung)),
    ]
    return element("tr", element("th", str(rung), scope="row"), [element("td", cell) for cell in cells])


def _bars(on: int, let_go: int, whole: int) -> Markup:
    """Both as shares of all that were judged at the first rung, beside each other."""
    parts = {"trained": on, "stopped": let_go}
    widths = {role: f"width:{100 * count / whole:.1f}%" for role, count in parts.items() if count}
    bars = [element("div", class_=f"bar {role}", style=width) for role, width in widths.items()]
    return element("div", bars, class_="parts")


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
