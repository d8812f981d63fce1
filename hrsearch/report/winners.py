"""The winners: a card for each, and the table of the front they stand on."""

from hrsearch.pick import value_of, winners
from hrsearch.report.headline import standing_out
from hrsearch.report.markup import Markup, element
from hrsearch.report.steps import command_box
from hrsearch.report.words import (
    TITLES,
    counted,
    design_of,
    interval_of,
    metric_of,
    shown_of,
    study_argument,
)
from hrsearch.study import Record, Trial
from hrsearch.trust import to_pick_from

CARDS = {"knee": "The knee", "best": "The best score", "fastest": "The fastest", "smallest": "The smallest"}
WHY = {
    "knee": "most of everything: where the front bends",
    "best": "whatever it costs",
    "fastest": "lowest latency of all",
    "smallest": "fewest parameters",
}
LEGEND = (
    "In the drawings stages go from left to right and resolutions from top to bottom; a band grows by one "
    "step with each doubling of its map's channels, a bar in it is a block, w is its window, and lines are fusions."
)


def podium(record: Record) -> Markup | None:
    """A card for each winner, with the drawing of its network and the command that exports it."""
    grouped: dict[int, list[str]] = {}
    for choice, trial in standing_out(record).items():
        grouped.setdefault(trial.number, []).append(choice)
    cards = [_card(record, record.trial(number), choices) for number, choices in grouped.items()]
    note = element("p", LEGEND, class_="note")
    return element("section", element("div", cards, class_="cards"), note, aria_label="Winners") if cards else None


def front_table(record: Record) -> Markup | None:
    """The networks of the front, best score first."""
    front = record.front()
    if not front:
        return None
    title = element("h2", element("span", counted(len(front), "network"), id="front-count"), " on the front")
    link = element("a", "trials.csv", href="trials.csv")
    said = "Small figures: 95 % interval of the median. Every trial with its knobs is in "
    note = element("p", said, link, ".", class_="note")
    return element("section", title, table_of(record), note)


def opener(trial: Trial, text: str) -> Markup:
    """A button that opens the page's panel on a trial."""
    return element("button", text, type="button", class_="open", data_trial=str(trial.number))


def table_of(record: Record, view: str = "") -> Markup:
    """The front as a table that scrolls where the page is narrow; the page keeps it in step with its filters."""
    front = record.front()
    columns = [name for name in TITLES if any(value_of(trial, name) is not None for trial in front)]
    heads = [_head(record, name) for name in columns]
    first, last = element("th", "Network", scope="col"), element("th", "Design", scope="col", class_="design")
    head = element("tr", first, heads, last)
    choices = standing_out(record)
    rows = [_row(trial, columns, [choice for choice, won in choices.items() if won is trial]) for trial in front]
    table = element(
        "table", element("thead", head), element("tbody", rows), data_view=view, data_columns=" ".join(columns)
    )
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Networks on the front")


def _card(record: Record, trial: Trial, choices: list[str]) -> Markup:
    numbers = [_number(record, trial, name) for name in TITLES if value_of(trial, name) is not None]
    title = " · ".join(CARDS[choice] for choice in choices)
    why = WHY[choices[0]] if len(choices) == 1 else None
    command = f"hrsearch export {study_argument(record)} --pick {choice_of(record, trial, choices[0])} --to winner/"
    return element(
        "article",
        element("p", title, class_="choice"),
        element("h2", trial.name, element("small", why)),
        element("dl", numbers, class_="numbers"),
        element("div", data_drawing=str(trial.number)) if trial.attributes.get("arch") else None,
        element("p", design_of(trial), class_="design"),
        command_box(command),
        opener(trial, "All about it"),
        class_="card",
    )


def choice_of(record: Record, trial: Trial, choice: str) -> str:
    """What `--pick` takes this trial by: the choice, unless an export takes another for it by confirmed scores."""
    picked = winners(to_pick_from(record, choice)).get(choice)
    return choice if picked and picked.number == trial.number else f"trial:{trial.number}"


def _number(record: Record, trial: Trial, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("div", element("dt", title), element("dd", shown_of(trial, name)))


def _row(trial: Trial, columns: list[str], choices: list[str]) -> Markup:
    badges = [element("span", choice, class_="badge") for choice in choices]
    if trial.attributes.get("known"):
        badges.append(element("span", "published", class_="badge published"))
    cells = [_cell(trial, name) for name in columns]
    name = element("th", opener(trial, trial.name), badges, scope="row")
    return element("tr", name, cells, element("td", design_of(trial), class_="design"))


def _head(record: Record, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("th", title, scope="col", colspan="2" if name == "latency" else None, class_=f"of-{name}")


def _cell(trial: Trial, name: str) -> tuple[Markup, ...]:
    value = element("td", shown_of(trial, name))
    return (value, element("td", interval_of(trial), class_="interval")) if name == "latency" else (value,)
