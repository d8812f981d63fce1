"""The winners: a card for each, and the table of the front they stand on."""

from hrsearch.arch import Arch
from hrsearch.pick import value_of
from hrsearch.report.drawing import drawing
from hrsearch.report.headline import standing_out
from hrsearch.report.markup import Markup, element, sign
from hrsearch.report.steps import command_box
from hrsearch.report.words import (
    TITLES,
    arch_of,
    counted,
    design_of,
    interval_of,
    kinds_of,
    metric_of,
    shown_of,
    study_argument,
)
from hrsearch.study import Record, Trial

CARDS = {"knee": "The knee", "best": "The best score", "fastest": "The fastest", "smallest": "The smallest"}
WHY = {
    "knee": "most of everything: where the front bends",
    "best": "whatever it costs",
    "fastest": "lowest latency of all",
    "smallest": "fewest parameters",
}


def podium(record: Record) -> Markup | None:
    """A card for each winner, with the drawing of its network and the command that exports it."""
    grouped: dict[int, list[str]] = {}
    for choice, trial in standing_out(record).items():
        grouped.setdefault(trial.number, []).append(choice)
    cards = [_card(record, record.trial(number), choices) for number, choices in grouped.items()]
    note = element("p", "In the drawings a bar is a block, its height grows with its channels.", class_="note")
    return element("section", element("div", cards, class_="cards"), note, aria_label="Winners") if cards else None


def front_table(record: Record) -> Markup | None:
    """The networks of the front, best score first."""
    front = record.front()
    if not front:
        return None
    title = element("h2", f"{counted(len(front), 'network')} on the front")
    link = element("a", "trials.csv", href="trials.csv")
    said = "Small figures: 95 % interval of the median. Every trial with its knobs is in "
    note = element("p", said, link, ".", class_="note")
    return element("section", title, table_of(record), note)


def table_of(record: Record) -> Markup:
    """The front as a table that scrolls where the page is narrow."""
    front = record.front()
    columns = [name for name in TITLES if any(value_of(trial, name) is not None for trial in front)]
    heads = [_head(record, name) for name in columns]
    head = element("tr", element("th", "Network", scope="col"), heads, element("th", "Design", scope="col"))
    choices = standing_out(record)
    rows = [_row(trial, columns, [choice for choice, won in choices.items() if won is trial]) for trial in front]
    return element("div", element("table", element("thead", head), element("tbody", rows)), class_="scroll")


def _card(record: Record, trial: Trial, choices: list[str]) -> Markup:
    arch = arch_of(trial)
    numbers = [_number(record, trial, name) for name in TITLES if value_of(trial, name) is not None]
    title = " · ".join(CARDS[choice] for choice in choices)
    why = WHY[choices[0]] if len(choices) == 1 else None
    command = f"hrsearch export {study_argument(record)} --pick {choices[0]} --to winner/"
    return element(
        "article",
        element("p", title, class_="choice"),
        element("h3", trial.name, element("small", why)),
        element("dl", numbers, class_="numbers"),
        (drawing(arch), _kinds(arch)) if arch else None,
        element("p", design_of(trial), class_="design"),
        command_box(command),
        class_="card",
    )


def _kinds(arch: Arch) -> Markup | None:
    kinds = kinds_of(branch for stage in arch.stages for branch in stage.branches)
    signs = [sign(f"kind{index % 4}", "■", kind) for index, kind in enumerate(kinds)]
    return element("p", signs, class_="key") if len(kinds) > 1 else None


def _number(record: Record, trial: Trial, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("div", element("dt", title), element("dd", shown_of(trial, name)))


def _row(trial: Trial, columns: list[str], choices: list[str]) -> Markup:
    badges = [element("span", choice, class_="badge") for choice in choices]
    if trial.attributes.get("known"):
        badges.append(element("span", "published", class_="badge published"))
    cells = [_cell(trial, name) for name in columns]
    name = element("th", trial.name, badges, scope="row")
    return element("tr", name, cells, element("td", design_of(trial), class_="design"))


def _head(record: Record, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("th", title, scope="col", colspan="2" if name == "latency" else None, class_=f"of-{name}")


def _cell(trial: Trial, name: str) -> tuple[Markup, ...]:
    value = element("td", shown_of(trial, name))
    return (value, element("td", interval_of(trial), class_="interval")) if name == "latency" else (value,)
