"""The page of a comparison: the fronts of several studies over each other, and the table of who beats whom."""

from collections.abc import Iterator
from pathlib import Path

from hrsearch.compare import Comparison, Side, cells_of
from hrsearch.objective import Objective, readable
from hrsearch.report.figures import Axis, Chart, Trace
from hrsearch.report.markup import Markup, element, figure_place, sign
from hrsearch.report.page import document, make_room, written
from hrsearch.report.points import FORMS
from hrsearch.report.words import TITLES

NOTHING: dict[str, object] = {  # of trials: the page has none to open
    **{name: [] for name in ("number", "kinds", "design")},
    **{name: {} for name in ("known", "columns", "views", "knobs", "winners")},
}
MARKS = 6  # colours that are told apart; the seventh study has the first one's again


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write the page to `path`."""
    make_room(path)
    figures = dict(_figures(found))
    title = _headline(found)
    main = element(
        "main",
        element("header", element("p", "hrsearch · compare", class_="eyebrow"), element("h1", title)),
        _remarks(found),
        element("section", element("h2", "Fronts"), _key(found), _places(figures)),
        element("section", element("h2", "Who beats whom"), _table(found), element("p", _box(found), class_="note")),
    )
    written(path, document(title, main, figures, NOTHING))
    return path


def _headline(found: Comparison) -> str:
    if found.obstacles:
        return f"{' and '.join(side.name for side in found.sides)}: no winner can be named"
    best, *others = found.ranked
    against = ", ".join(f"{side.name} {side.hypervolume:.3f}" for side in others)
    return f"{best.name} dominates {best.hypervolume:.3f} of the common box; {against}"


def _remarks(found: Comparison) -> Markup | None:
    obstacles = [f"No winner: {obstacle}" for obstacle in found.obstacles]
    lines = [*obstacles, *found.verdicts, *(f"Careful: {doubt}" for doubt in found.doubts)]
    return element("ul", [element("li", line) for line in lines], class_="against") if lines else None


def _figures(found: Comparison) -> Iterator[tuple[str, Chart]]:
    """The first objective over each of the others: of each study the networks of its front, and their best so far."""
    first, *costs = found.objectives
    for place, cost in enumerate(costs, 1):
        traces = [trace for index, side in enumerate(found.sides) for trace in _traces(side, index, place, first, cost)]
        across = Axis(cost.label, FORMS.get(cost.name, "count"), log=cost.direction == "minimize")
        yield f"by_{cost.name}", Chart(across, Axis(first.label, FORMS.get(first.name, "count")), traces)


def _traces(side: Side, index: int, place: int, first: Objective, cost: Objective) -> Iterator[Trace]:
    role = f"kind{index % MARKS}"
    points = sorted((point[place], point[0]) for point in side.points)
    if cost.direction == "maximize":
        points.reverse()
    better = max if first.direction == "maximize" else min
    reached = [better(value for _, value in points[: end + 1]) for end in range(len(points))]
    across = [at for at, _ in points]
    yield Trace(role, "steps", across, reached, side.name)
    yield Trace(role, "points", across, [value for _, value in points], side.name, [-1] * len(points))


def _key(found: Comparison) -> Markup:
    signs = [sign(f"kind{index % MARKS}", "●", side.name) for index, side in enumerate(found.sides)]
    return element("p", signs, element("span", "Line: the best so far, from left to right."), class_="key")


def _places(figures: dict[str, Chart]) -> Markup:
    places = [figure_place(name, f"{chart.up.label} against {chart.across.label}") for name, chart in figures.items()]
    return element("div", [element("div", place) for place in places], class_="figures")


def _table(found: Comparison) -> Markup:
    heads = ("Study", "Hypervolume", "Trained", "Front", "On the common front", "Of its front beaten by")
    rows = [
        element(
            "tr",
            element("th", side.name, scope="row"),
            [element("td", text) for text in cells_of(side, found)],
        )
        for side in found.ranked
    ]
    head = element("thead", element("tr", [element("th", text, scope="col") for text in heads]))
    return element("div", element("table", head, element("tbody", rows)), class_="scroll", tabindex="0", role="region")


def _box(found: Comparison) -> str:
    axes = ", ".join(
        f"{TITLES.get(one.name, one.name)} {readable(span.worst, one.unit)} to {readable(span.best, one.unit)}"
        for one, span in zip(found.objectives, found.ranges, strict=True)
    )
    return f"The common box: {axes}; costs on a log scale."
