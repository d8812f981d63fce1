"""The report's sections, functions from a record to HTML; `body` sets their order. None leaves a section out."""

from collections.abc import Collection

from hrsearch.pick import trained_of, value_of
from hrsearch.report.arms import verdict
from hrsearch.report.elsewhere import elsewhere
from hrsearch.report.figures import FIGURES, growth_of
from hrsearch.report.forecasts import forecasts
from hrsearch.report.headline import comparisons, headline, summary
from hrsearch.report.markup import Markup, element, joined, sign
from hrsearch.report.outcomes import ends
from hrsearch.report.protocol import protocol
from hrsearch.report.steps import next_steps
from hrsearch.report.winners import front_table, podium
from hrsearch.report.words import counted, shown
from hrsearch.study import Record


def body(record: Record, drawn: Collection[str]) -> Markup:
    """The page's sections one after the other; `drawn` names the figures that have data."""
    return joined(
        (
            opening(record),
            podium(record),
            front_figures(drawn),
            front_table(record),
            elsewhere(record),
            bills(record, drawn),
            progress(record, drawn),
            ends(record),
            next_steps(record),
            protocol(record),
        )
    )


def opening(record: Record) -> Markup:
    """What won and what was searched, in plain words."""
    name = element("p", "hrsearch · study ", element("b", record.name), class_="eyebrow")
    lead = element("p", " ".join(summary(record)), class_="lead")
    lines = [element("li", sentence) for sentence in comparisons(record)]
    against = element("ul", lines, class_="against") if lines else None
    return element("header", name, element("h1", headline(record)), lead, against)


def front_figures(drawn: Collection[str]) -> Markup | None:
    """The score against every cost."""
    figures = _figures(drawn, [name for name in FIGURES if name.startswith("score_against_")])
    if not figures:
        return None
    key = element(
        "p",
        sign("front", "●", "on the front of all objectives"),
        sign("judged", "●", "judged"),
        sign("published", "◆", "published network"),
        sign("winner", "○", "winner"),
        element("span", "Line: the front of the two axes alone. Hover over a point for its design."),
        class_="key",
    )
    return element("section", element("h2", "The front"), key, element("div", figures, class_="figures"))


def progress(record: Record, drawn: Collection[str]) -> Markup | None:
    """How the hypervolume grew, what the sampler added to luck, and how latency goes with FLOPs."""
    parts = [
        ("growth", "How the front grew", _growing),
        ("sampler_against_random", "Did the sampler earn its keep?", _arms),
        ("latency_against_flops", "FLOPs are not speed", _spread),
    ]
    columns = [
        element("div", element("h2", title), element("p", words(record)), _figures(drawn, [name]))
        for name, title, words in parts
        if name in drawn
    ]
    return element("section", columns, class_="figures") if columns else None


def bills(record: Record, drawn: Collection[str]) -> Markup | None:
    """Where the milliseconds go, and what the parts of one network told of the next."""
    figures = _figures(drawn, ["bill_of_published", "bill_of_knee"])
    if not figures:
        return None
    words = (
        "Share of every place of the network in its multiply-accumulates and in its measured latency. "
        "What lies between the parts are sums, activations and the resizing of maps, which count no FLOPs."
    )
    told = forecasts(record)
    return element(
        "section",
        element("h2", "Where the milliseconds go"),
        element("p", words),
        element("div", figures, class_="figures"),
        element("p", told) if told else None,
    )


def _figures(drawn: Collection[str], names: list[str]) -> list[Markup]:
    shown = [name for name in names if name in drawn]
    return [_figure(name) for name in shown]


def _figure(name: str) -> Markup:
    words = name.replace("_", " ")
    return element("div", class_="figure", id=f"figure-{name}", data_figure=name, role="figure", aria_label=words)


def _growing(record: Record) -> str:
    shares = growth_of(record)
    last = max(len(shares) // 4, 1)
    gained = 1 - shares[-1 - last] / shares[-1] if len(shares) > last and shares[-1] else 1.0
    added = f"{gained:.1%} of it" if gained >= 5e-4 else "nothing"
    late = f" The last {counted(last, 'trial')} added {added}." if last > 1 else ""
    return (
        "How much of the box between the worst and the best values seen the front dominates; costs on a log scale."
        + late
    )


def _arms(record: Record) -> str:
    return " ".join([*verdict(record), "Line: the sampler, with its 95 % interval; dashed: random draws."])


def _spread(record: Record) -> str:
    trials = [t for t in trained_of(record) if value_of(t, "latency") and value_of(t, "flops")]
    rates = sorted((value_of(t, "flops") or 0.0) / (value_of(t, "latency") or 1.0) * 1e3 for t in trials)
    if len(rates) < 2:
        return "Multiply-accumulates against measured latency."
    return (
        f"A network here does between {shown('flops', rates[0])} and {shown('flops', rates[-1])} multiply-accumulates "
        f"a second: {rates[-1] / rates[0]:.1f} times as many in one design as in another."
    )
