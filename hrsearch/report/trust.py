"""The trust card in the report: how far the scores of this page can be trusted."""

from hrsearch.report.markup import Markup, element
from hrsearch.study import Record
from hrsearch.trust.card import Card, card_of, verdict_of
from hrsearch.trust.words import Part, cells_of, heads_of, notes_of, parts_of, title_of

COLOURS = {"green": "var(--winner)", "amber": "var(--refused)", "red": "var(--failed)"}


def trust_card(record: Record) -> Markup | None:
    """What `hrsearch calibrate` found; None where it was not asked."""
    card = card_of(record)
    if card is None:
        return None
    return element(
        "section",
        element("h2", "How far the scores can be trusted"),
        element("p", element("b", f"{card.verdict}: ", style=f"color: {COLOURS[card.verdict]}"), card.words),
        element("p", title_of(card)),
        [element("div", _table(card, part), class_="scroll") for part in parts_of(card)],
        [element("p", note, class_="note") for note in notes_of(card)],
        class_=f"trust {card.verdict}",
    )


def _table(card: Card, part: Part) -> Markup:
    sides = _aligned(heads_of(card, part))
    heads = [element("th", head, scope="col", style=f"text-align: {side}") for head, side in sides]
    rows = [_row(cells_of(row, part, card.networks), verdict_of(row)) for row in card.proxy]
    rows += [_row(cells_of(row, part, card.networks)) for row in card.baselines]
    return element("table", element("thead", element("tr", heads)), element("tbody", rows))


def _aligned(heads: tuple[str, ...]) -> list[tuple[str, str]]:
    """Figures stand to the right, the last column's, too."""
    return [(head, "right" if place else "left") for place, head in enumerate(heads)]


def _row(row: tuple[str, ...], verdict: str | None = None) -> Markup:
    """The proxy's rows have their verdict's colour."""
    name, *cells = row
    style = f"color: {COLOURS[verdict]}" if verdict else None
    return element("tr", element("th", name, scope="row", style=style), [element("td", cell) for cell in cells])
