"""The trust card as a table of words, for the terminal and the report."""

from dataclasses import asdict
from typing import Any

from hrsearch.ranking import Estimate
from hrsearch.trust.card import Card, Row

SAID = (
    "Kendall tau is 1 where the order is that of long training, 0 where it tells nothing of it. The top quarter is "
    "that of the study by the proxy's score. In brackets: 95 % intervals of a bootstrap over networks. Short and long "
    "trainings are validated on the same images, so that what is chance in these is told as agreement."
)


def heads_of(card: Card) -> tuple[str, ...]:
    """The titles of the columns."""
    return ("order by", "Kendall tau", "in the top quarter", f"finds of the best {card.best}", f"{card.metric} lost")


def cells_of(row: Row) -> tuple[str, ...]:
    """A row in words."""
    return (
        row.name,
        _number(row.tau),
        _number(row.tau_top),
        _number(row.recall, percent=True),
        _number(row.regret, digits=3),
    )


def title_of(card: Card) -> str:
    """What was done, in a line."""
    seeds = "one other seed" if card.seeds == 1 else f"{card.seeds} other seeds"
    trained = f"{card.networks} networks ({card.top} of the top quarter), standing for {card.population:,}"
    return f"{trained}, were trained {card.times} times as long as the proxy ({card.steps:,} steps, {seeds})."


def notes_of(card: Card) -> list[str]:
    """What one must know to read it."""
    if card.ceiling is None:
        return [SAID]
    return [SAID, f"Two long trainings with different seeds agree with Kendall tau {card.ceiling:.2f}: the ceiling."]


def lines_of(card: Card) -> list[str]:
    """The card for the terminal."""
    rows = [heads_of(card), *map(cells_of, (*card.proxy, *card.baselines))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"{card.study}: {title_of(card)}", "", *table, "", *notes_of(card), f"{card.verdict.upper()}: {card.words}"]


def json_of(card: Card) -> dict[str, Any]:
    """The card for machines."""
    return {**asdict(card), "words": card.words}


def _number(one: Estimate | None, digits: int = 2, percent: bool = False) -> str:
    if one is None:
        return "–"
    form = "{:.0%}" if percent else f"{{:.{digits}f}}"
    interval = "" if one.low is None else f" ({form.format(one.low)} to {form.format(one.high)})"
    return form.format(one.value) + interval
