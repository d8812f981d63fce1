"""The trust card in the report: how far the scores of this page can be trusted."""

from hrsearch.report.markup import Markup, element
from hrsearch.study import Record
from hrsearch.trust.card import Row, card_of, verdict_of
from hrsearch.trust.words import cells_of, heads_of, notes_of, title_of

COLOURS = {"green": "var(--winner)", "amber": "var(--refused)", "red": "var(--failed)"}


def trust_card(record: Record) -> Markup | None:
    """What `hrsearch calibrate` found; None where it was not asked."""
    card = card_of(record)
    if card is None:
        return None
    heads = [element("th", head, scope="col", style=f"text-align: {side}") for head, side in _aligned(heads_of(card))]
    rows = [_row(row, verdict_of(row)) for row in card.proxy] + [_row(row) for row in card.baselines]
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows))
    return element(
        "section",
        element("h2", "How far the scores can be trusted"),
        element("p", element("b", f"{card.verdict}: ", style=f"color: {COLOURS[card.verdict]}"), card.words),
        element("p", title_of(card)),
        element("div", table, class_="scroll"),
        [element("p", note, class_="note") for note in notes_of(card)],
        class_=f"trust {card.verdict}",
    )


def _aligned(heads: tuple[str, ...]) -> list[tuple[str, str]]:
    """Figures stand to the right, the last column's, too."""
    return [(head, "right" if place else "left") for place, head in enumerate(heads)]


def _row(row: Row, verdict: str | None = None) -> Markup:
    """The proxy's rows have their verdict's colour."""
    name, *cells = cells_of(row)
    style = f"color: {COLOURS[verdict]}" if verdict else None
    return element("tr", element("th", name, scope="row", style=style), [element("td", cell) for cell in cells])
