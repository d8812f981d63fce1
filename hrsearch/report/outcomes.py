"""What became of the candidates."""

from hrsearch.pick import trained_of
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import Outcome, outcomes
from hrsearch.study import Record


def ends(record: Record) -> Markup | None:
    """How many candidates were trained, refused, failed or lost, and why."""
    if not record.trials:
        return None
    trained = Outcome("trained", "judged in every objective", tuple(trial.number for trial in trained_of(record)))
    found = [trained, *outcomes(record)] if trained.numbers else outcomes(record)
    rows = [_end(outcome, len(record.trials)) for outcome in found]
    table = element("table", element("tbody", rows), class_="ends")
    return element("section", element("h2", "What became of the candidates"), element("div", table, class_="scroll"))


def _end(outcome: Outcome, total: int) -> Markup:
    count = len(outcome.numbers)
    bar = element("div", class_=f"bar {outcome.state}", style=f"width:{100 * count / total:.1f}%")
    return element(
        "tr",
        element("th", outcome.state, scope="row"),
        element("td", count),
        element("td", bar, class_="share"),
        element("td", outcome.reason, element("small", _some(outcome)) if outcome.state != "trained" else None),
    )


def _some(outcome: Outcome) -> str:
    more = ", …" if len(outcome.numbers) > 6 else ""
    return f"trial {', '.join(map(str, outcome.numbers[:6]))}{more}"
