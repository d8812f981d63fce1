"""The confirmed front in the report: intervals of scores, the chance to be on it, and what was only lucky."""

from collections.abc import Mapping

from hrsearch.pick import named
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import TITLES, counted, design_of, interval_of, metric_of, shown, shown_of, spelled
from hrsearch.study import Record, Trial
from hrsearch.trust.confirmed import chances, confirmation_of, confirmed, lucky, seeds_of

VALIDATED = {
    "proxy": "Scores are over the validation images of the search, which chose the front by them.",
    "official": "Scores are over validation images that the search has never seen: official, held out, or made anew.",
}


def confirmation(record: Record) -> Markup | None:
    """The front as `hrsearch finalize` confirmed it; None where it did not."""
    view = confirmed(record)
    if view is record:
        return None
    odds = chances(view)
    costs = [objective.name for objective in view.objectives if objective.name != "score"]
    titles = [metric_of(view), "95 %", "of the search", *(TITLES[name] for name in costs), "on the front", "Design"]
    heads = [element("th", title, scope="col") for title in ("Network", *titles)]
    rows = [_row(record, trial, costs, odds.get(trial.number, 0.0)) for trial in view.front()]
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return element(
        "section",
        element("h2", "The confirmed front"),
        element("p", " ".join(_words(record, view, odds))),
        element("div", table, class_="scroll"),
        class_="confirmed",
    )


def _row(record: Record, trial: Trial, costs: list[str], chance: float) -> Markup:
    score = trial.attributes["score"]
    cells = [
        shown("score", score["value"]),
        f"{score['low']:.3f}–{score['high']:.3f}",
        shown_of(record.trial(trial.number), "score"),
        *(" ".join(filter(None, [shown_of(trial, name), _latency(trial, name)])) for name in costs),
        f"{chance:.0%}",
    ]
    row = [element("th", trial.name, scope="row"), *(element("td", cell) for cell in cells)]
    return element("tr", row, element("td", design_of(trial), class_="design"))


def _latency(trial: Trial, name: str) -> str:
    interval = interval_of(trial) if name == "latency" else ""
    return f"({interval})" if interval else ""


def _words(record: Record, view: Record, odds: Mapping[int, float]) -> list[str]:
    how = confirmation_of(record)
    trained = f"{counted(len(view.trials), 'network')}, the front and what is as good within the noise of a score"
    said = [
        f"{trained} ({how['noise']:.3f}), trained {how['times']} times as long with {seeds_of(view)} seeds each.",
        VALIDATED[how["split"]],
        "On the front: how often each is on it when scores and latencies are drawn anew within their noise.",
    ]
    dropped = [f"{trial.name} ({odds[trial.number]:.0%})" for trial in lucky(record)]
    if dropped:
        said.append(f"Dropped as luck of the search: {spelled(dropped)}.")
    if view.unconfirmed:
        said.append(f"Not confirmed: {named(view.unconfirmed)}; hrsearch finalize without --most does it.")
    return said
