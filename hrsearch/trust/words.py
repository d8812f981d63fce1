"""The trust card as a table of words, for the terminal and the report."""

from dataclasses import asdict
from typing import Any, Literal

from hrsearch.ranking import Estimate
from hrsearch.trust.card import AGAIN, FEWEST, Card, Row

Part = Literal["all", "top"]
SAID = (
    "Kendall tau is 1 where the order is that of long training, 0 where it tells nothing of it. The top quarter is "
    "that of the study by the proxy's score. In brackets: 95 % intervals of a bootstrap over networks. Short and long "
    "trainings are validated on the same images, so that what is chance in these is told as agreement."
)

TOLD_AGAIN = (
    f"The row {AGAIN!r} is what one long training tells of another one; other rows are held against the mean of all "
    "seeds, which luck sways less, and may say somewhat more."
)


def parts_of(card: Card) -> tuple[Part, ...]:
    """Of which networks there are figures."""
    return ("all", "top") if card.top >= FEWEST else ("all",)


def heads_of(card: Card, part: Part) -> tuple[str, ...]:
    """The titles of the columns."""
    if part == "top":
        return ("in the top quarter, by", "Kendall tau", f"finds of its best {card.best_top}", f"{card.metric} lost")
    return ("order by", "Kendall tau", f"finds of the best {card.best}", f"{card.metric} lost")


def cells_of(row: Row, part: Part, networks: int) -> tuple[str, ...]:
    """A row in words; `networks` are the card's."""
    top = (row.tau_top, row.recall_top, row.regret_top)
    tau, found, lost = top if part == "top" else (row.tau, row.recall, row.regret)
    name = row.name if row.networks == networks else f"{row.name}, of {row.networks} judged"
    return (name, _number(tau), _number(found, percent=True), _number(lost, digits=3))


def title_of(card: Card) -> str:
    """What was done, in a line."""
    fewest, most = card.seeds
    seeds = "one other seed" if most == 1 else f"{'' if fewest == most else f'{fewest} to '}{most} other seeds"
    trained = f"{card.networks} networks ({card.top} of the top quarter), standing for {card.population:,}"
    return f"{trained}, were trained {card.times} times as long as the proxy ({card.steps:,} steps, {seeds})."


def notes_of(card: Card) -> list[str]:
    """What one must know to read it."""
    again = any(row.name == AGAIN for row in card.baselines)
    return [SAID, TOLD_AGAIN] if again else [SAID]


def lines_of(card: Card) -> list[str]:
    """The card for the terminal."""
    tables = [line for part in parts_of(card) for line in (*_table(card, part), "")]
    return [f"{card.study}: {title_of(card)}", "", *tables, *notes_of(card), f"{card.verdict.upper()}: {card.words}"]


def _table(card: Card, part: Part) -> list[str]:
    rows = [heads_of(card, part), *(cells_of(row, part, card.networks) for row in (*card.proxy, *card.baselines))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def json_of(card: Card) -> dict[str, Any]:
    """The card for machines."""
    return {**asdict(card), "words": card.words}


def _number(one: Estimate | None, digits: int = 2, percent: bool = False) -> str:
    if one is None:
        return "–"
    form = "{:.0%}" if percent else f"{{:.{digits}f}}"
    interval = "" if one.low is None else f" ({form.format(one.low)} to {form.format(one.high)})"
    return form.format(one.value) + interval
