"""The report's sections, functions from a record to HTML; `body` sets their order. None leaves a section out."""

from collections.abc import Callable, Collection

from hrsearch.pick import trained_of, value_of
from hrsearch.report.arms import FEWEST, arms_of, verdict
from hrsearch.report.confirmation import confirmation
from hrsearch.report.differences import apart
from hrsearch.report.elsewhere import elsewhere
from hrsearch.report.figures import FIGURES, early_score, growth_of, seconds_of
from hrsearch.report.forecasts import forecasts, foretold
from hrsearch.report.headline import comparisons, headline, summary
from hrsearch.report.health import health
from hrsearch.report.knobs import knobs
from hrsearch.report.markup import Markup, element, figure_place, joined, sign
from hrsearch.report.outcomes import ends
from hrsearch.report.protocol import protocol
from hrsearch.report.rungs import funnel
from hrsearch.report.steps import next_steps
from hrsearch.report.trust import trust_card
from hrsearch.report.winners import front_table, podium
from hrsearch.report.words import counted, shown
from hrsearch.study import Record, Trial

PLACED = {  # figures that stand in a section of their own
    "sampler_against_random",
    "front",
    "front_in_space",
    "latency_against_flops",
    "growth",
    "growth_in_time",
    "scores",
    "rungs",
    "bill_of_published",
    "bill_of_knee",
}


def body(record: Record, drawn: Collection[str]) -> Markup:
    """The page's sections one after the other; `drawn` names the figures that have data."""
    return joined(
        (
            opening(record),
            podium(record),
            explorer(drawn),
            front_table(record),
            apart(record),
            confirmation(record),
            trust_card(record),
            elsewhere(record),
            knob_lines(record),
            knobs(record),
            bills(record, drawn),
            progress(record, drawn),
            others(drawn),
            funnel(record, _figures(drawn, ["rungs"])),
            health(record),
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


def explorer(drawn: Collection[str]) -> Markup | None:
    """The front over any two objectives, with limits to try; the page fills in what there is to choose from."""
    if "front" not in drawn:
        return None
    key = element(
        "p",
        sign("front", "●", "on the front of all objectives"),
        sign("judged", "●", "judged"),
        sign("published", "◆", "published network"),
        sign("winner", "○", "winner"),
        element("span", "Line: the front of the two axes alone. Click a point for all about it; drag to zoom."),
        class_="key",
    )
    controls = element("form", id="controls", class_="controls", aria_label="Axes and limits")
    state = element("p", id="kept", class_="note", role="status")
    heading = element("h2", "The front")
    figures = element("div", *_figures(drawn, ["front"]), controls, class_="explorer")
    return element("section", heading, key, figures, state, _in_space(drawn))


def _in_space(drawn: Collection[str]) -> Markup | None:
    """The front over two costs at once; folded away, for the plane above says most."""
    if "front_in_space" not in drawn:
        return None
    words = (
        "Drag, or use the arrow keys, to turn it; a thin line leads from each network of the front to the floor. "
        "Published networks beyond all that were drawn are left out."
    )
    figure = element("div", element("p", words, class_="note"), _figures(drawn, ["front_in_space"]))
    return element("details", element("summary", "In three dimensions"), figure, class_="solid")


def knob_lines(record: Record) -> Markup | None:
    """A line for every candidate through its knobs; levels are chosen in the page."""
    if sum(bool(trial.knobs) for trial in trained_of(record)) < 2:
        return None
    words = (
        "A line is a candidate, blue ones are on the front. Choose levels by clicking on them, or drag along an axis: "
        "all figures and the table above show only what is left."
    )
    place = element("div", id="knobs", class_="knob-lines", role="group", aria_label="Levels of the knobs")
    return element("section", element("h2", "The knobs of the candidates"), element("p", words), place)


def progress(record: Record, drawn: Collection[str]) -> Markup | None:
    """How the hypervolume grew, what the sampler added to luck, how scores are spread, how latency goes with FLOPs."""
    parts: list[tuple[str, str, Callable[[Record], str]]] = [
        ("growth", "How the front grew", _growing),
        ("growth_in_time", "The same in time", _in_time),
        ("sampler_against_random", "Did the sampler earn its keep?", _arms),
        ("scores", "What the space holds", _spread_of_scores),
        ("latency_against_flops", "FLOPs are not speed", _spread),
    ]
    columns = [
        element("div", element("h2", title), element("p", words(record)), _figures(drawn, [name]))
        for name, title, words in parts
        if name in drawn
    ]
    return element("section", columns, class_="figures") if columns else None


def others(drawn: Collection[str]) -> Markup | None:
    """Figures that no section asks for by name: an entry in `FIGURES` is enough to be on the page."""
    figures = _figures(drawn, [name for name in FIGURES if name not in PLACED])
    return element("section", element("h2", "More"), element("div", figures, class_="figures")) if figures else None


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
    return [figure_place(name, name.replace("_", " ")) for name in names if name in drawn]


def _growing(record: Record) -> str:
    shares = growth_of(record)
    last = max(len(shares) // 4, 1)
    gained = 1 - shares[-1 - last] / shares[-1] if len(shares) > last and shares[-1] else 1.0
    added = f"{gained:.1%} of it" if gained >= 5e-4 else "nothing"
    late = f" The last {counted(last, 'trial')} added {added}." if last > 1 and shares[-1] else ""
    told = "How much of the box between the worst and the best values seen the front dominates; costs on a log scale."
    return f"{told}{late} {foretold(record)}".rstrip()


def _arms(record: Record) -> str:
    return " ".join([*verdict(record), "Line: the sampler, with 95 % of its choices; dashed: random draws."])


def _in_time(record: Record) -> str:
    said = "Hours that judging the candidates took, one after the other; published networks are left out."
    hours = [sum(map(seconds_of, arm)) / 3600 for arm in arms_of(record)]
    if len(arms_of(record)[1]) < FEWEST:
        return said
    return f"{said} Line: the sampler, {hours[0]:.2g} h in all; dashed: random draws, {hours[1]:.2g} h."


def _spread(record: Record) -> str:
    trials = [t for t in trained_of(record) if value_of(t, "latency") and value_of(t, "flops")]
    rates = sorted(_rate(trial) for trial in trials)
    if len(rates) < 2:
        return "Multiply-accumulates against measured latency."
    return (
        f"A network here does between {shown('flops', rates[0])} and {shown('flops', rates[-1])} multiply-accumulates "
        f"a second: {rates[-1] / rates[0]:.1f} times as many in one design as in another."
    )


def _rate(trial: Trial) -> float:
    """Multiply-accumulates a second: FLOPs are of one image, latency of a batch."""
    images = int(trial.attributes["latency"].get("batch", 1))
    return images * (value_of(trial, "flops") or 0.0) / (value_of(trial, "latency") or 1.0) * 1e3


def _spread_of_scores(record: Record) -> str:
    sampled, at_random = ([score for t in arm if (score := early_score(t)) is not None] for arm in arms_of(record))
    when = "after the first rung" if any(t.attributes.get("rungs") for t in record.trials) else "in full training"
    if len(at_random) >= FEWEST:
        told = (
            f"Dashed: the space, by {len(at_random)} random draws {_quarters(at_random)}. Line: what the sampler drew"
        )
    else:
        told = "Random draws, which would show the space, are too few: the line shows what the sampler drew"
    return f"Scores {when}. {told} ({counted(len(sampled), 'network')} {_quarters(sampled)})."


def _quarters(scores: list[float]) -> str:
    found = sorted(scores)
    middle, quarter = (shown("score", found[len(found) // part]) for part in (2, 4))
    return f"of which half reach {middle}, three quarters {quarter}"
