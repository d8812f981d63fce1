"""The report's figures: to add one, write a function from a record to a plotly figure and enter it in `FIGURES`.

A trace's `meta["role"]` names its colour in `COLOURS`; the page repaints it when light turns to dark. A figure without
data is left out of the page.
"""

import html
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import plotly.graph_objects as go

from hrsearch.front import hypervolume_growth, non_dominated, ranges_of
from hrsearch.objective import objective_of
from hrsearch.pick import trained_of, value_of
from hrsearch.report.arms import compared
from hrsearch.report.headline import standing_out
from hrsearch.report.words import TITLES, design_of, metric_of, plain, shown, shown_of
from hrsearch.study import Record, Trial

# role: (on light, on dark), after Okabe and Ito (2008): distinct for colour-blind eyes, too, and never the only sign
COLOURS = {
    "front": ("#0067b1", "#5db2f2"),
    "judged": ("#98a4b3", "#66727f"),
    "published": ("#c4520a", "#f2a154"),
    "winner": ("#00785a", "#3fcfa4"),
}


def score_against_latency(record: Record) -> go.Figure:
    """Score against latency, with the interval of every latency of the front."""
    return _scatter(record, "latency", "score")


def score_against_flops(record: Record) -> go.Figure:
    """Score against multiply-accumulates."""
    return _scatter(record, "flops", "score")


def score_against_params(record: Record) -> go.Figure:
    """Score against parameters, where the study judges by them."""
    return _where_judged(record, "params")


def score_against_memory(record: Record) -> go.Figure:
    """Score against the peak memory of a forward pass, where the study judges by it."""
    return _where_judged(record, "memory")


def score_against_training_memory(record: Record) -> go.Figure:
    """Score against the peak memory of a training step, where the study judges by it."""
    return _where_judged(record, "training_memory")


def latency_against_flops(record: Record) -> go.Figure:
    """Latency against multiply-accumulates: FLOPs are not speed."""
    return _scatter(record, "flops", "latency")


def growth(record: Record) -> go.Figure:
    """The share of the box between the worst and the best values that the trials so far dominate."""
    shares = growth_of(record)
    figure = go.Figure()
    if not record.trained or len(record.trials) < 2:
        return figure
    numbers = [trial.number for trial in record.trials]
    figure.add_scatter(
        x=numbers,
        y=shares,
        mode="lines",
        line={"shape": "hv", "width": 2.5, "color": COLOURS["front"][0]},
        fill="tozeroy",
        meta={"role": "front"},
        hovertemplate="after trial %{x}: %{y:.1%}<extra></extra>",
    )
    _add_growing(figure, record, shares)
    figure.update_layout(_layout("trial", "hypervolume"))
    figure.update_yaxes(tickformat=".0%", range=[0, 1.08 * max(shares)])
    return figure


def sampler_against_random(record: Record) -> go.Figure:
    """How the volume grows with candidates of the sampler, and with as many that were drawn at random."""
    found, figure = compared(record), go.Figure()
    if found is None:
        return figure
    numbers = list(range(1, found.count + 1))
    band = {"x": numbers, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "meta": {"role": "front"}}
    figure.add_scatter(y=found.low.tolist(), **band)
    figure.add_scatter(y=found.high.tolist(), fill="tonexty", **band)
    for role, title, shares in (("front", "the sampler", found.sampler), ("judged", "random draws", found.random)):
        figure.add_scatter(
            x=numbers,
            y=shares.tolist(),
            mode="lines",
            line={"width": 2.5, "color": COLOURS[role][0], "dash": "solid" if role == "front" else "dash"},
            hovertemplate=f"%{{x}} candidates of {title}: %{{y:.1%}}<extra></extra>",
            meta={"role": role},
        )
    figure.update_layout(_layout("candidates", "hypervolume"))
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return figure


def bill_of_published(record: Record) -> go.Figure:
    """Where the FLOPs and the milliseconds of the first published network go."""
    return _bill(next((trial for trial in trained_of(record) if trial.attributes.get("known")), None))


def bill_of_knee(record: Record) -> go.Figure:
    """The same of the winner that gives most of everything."""
    return _bill(standing_out(record).get("knee"))


FIGURES: dict[str, Callable[[Record], go.Figure]] = {
    "score_against_latency": score_against_latency,
    "score_against_flops": score_against_flops,
    "score_against_params": score_against_params,
    "score_against_memory": score_against_memory,
    "score_against_training_memory": score_against_training_memory,
    "latency_against_flops": latency_against_flops,
    "growth": growth,
    "sampler_against_random": sampler_against_random,
    "bill_of_published": bill_of_published,
    "bill_of_knee": bill_of_knee,
}


def growth_of(record: Record) -> list[float]:
    """The dominated share after each trial, by number; trials that may not stand on the front add nothing."""
    directions = [objective.direction for objective in record.objectives]
    contenders = {trial.number for trial in record.contenders}
    points = [
        [value if value is not None and trial.number in contenders else math.nan for value in trial.values]
        for trial in record.trials
    ]
    return hypervolume_growth(points, directions, ranges_of(points, directions))


def _bill(trial: Trial | None) -> go.Figure:
    """Two bars for each place of a network: its share of the FLOPs and of the milliseconds."""
    figure = go.Figure()
    if trial is None or not trial.attributes.get("ms_by_place") or not trial.attributes.get("flops_by_place"):
        return figure
    bars = [("FLOPs", "judged", "flops_by_place", "flops"), ("milliseconds", "front", "ms_by_place", "latency")]
    places = list(trial.attributes["ms_by_place"])
    for title, role, attribute, name in bars:
        found = trial.attributes[attribute]
        whole = sum(found.values()) or 1.0
        figure.add_bar(
            y=places,
            x=[found.get(place, 0.0) / whole for place in places],
            orientation="h",
            name=title,
            marker={"color": COLOURS[role][0]},
            customdata=[shown(name, found.get(place, 0.0)) for place in places],
            hovertemplate=f"%{{y}}: %{{customdata}}, %{{x:.1%}} of the {title}<extra></extra>",
            meta={"role": role},
        )
    figure.update_layout(_layout(f"share of {html.escape(trial.name)}", ""), showlegend=True, bargap=0.3)
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "x": 0, "traceorder": "normal"})
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure


def _where_judged(record: Record, cost: str) -> go.Figure:
    judged = any(objective.name == cost for objective in record.objectives)
    return _scatter(record, cost, "score") if judged else go.Figure()


def _scatter(record: Record, across: str, up: str) -> go.Figure:
    """Trained trials in two objectives: those of the front, the others, published networks, winners."""
    trials = [trial for trial in trained_of(record) if None not in (value_of(trial, across), value_of(trial, up))]
    figure = go.Figure()
    if not trials:
        return figure
    front = {trial.number for trial in record.front()}
    published = [trial for trial in trials if trial.attributes.get("known")]
    drawn = [trial for trial in trials if not trial.attributes.get("known")]
    _add_edge(figure, [trial for trial in trials if trial.is_within_limits], across, up)
    rest = [trial for trial in drawn if trial.number not in front]
    _add_points(figure, rest, across, up, "judged", {"size": 7, "opacity": 0.55})
    _add_points(figure, [trial for trial in drawn if trial.number in front], across, up, "front", {"size": 10})
    _add_points(figure, published, across, up, "published", {"size": 12, "symbol": "diamond"})
    _add_names(figure, published, across, up)
    _add_winners(figure, record, across, up)
    figure.update_layout(_layout(_title(record, across), _title(record, up)))
    figure.update_xaxes(_axis([value_of(trial, across) or 0.0 for trial in trials], across))
    figure.update_yaxes(_axis([value_of(trial, up) or 0.0 for trial in trials], up))
    return figure


def _add_edge(figure: go.Figure, trials: Sequence[Trial], across: str, up: str) -> None:
    """The steps of the front of these two objectives alone."""
    points = [(value_of(trial, across) or 0.0, value_of(trial, up) or 0.0) for trial in trials]
    directions = [objective_of(across).direction, objective_of(up).direction]
    edge = sorted({points[index] for index in non_dominated(points, directions)})
    if directions[0] == directions[1]:
        return  # both are costs: their front says little where the score is what counts
    figure.add_scatter(
        x=[x for x, _ in edge],
        y=[y for _, y in edge],
        mode="lines",
        line={"shape": "hv", "width": 1.5, "color": COLOURS["front"][0]},
        opacity=0.6,
        hoverinfo="skip",
        meta={"role": "front"},
    )


def _add_points(
    figure: go.Figure,
    trials: Sequence[Trial],
    across: str,
    up: str,
    role: str,
    marker: dict[str, Any],
) -> None:
    if not trials:
        return
    figure.add_scatter(
        x=[value_of(trial, across) for trial in trials],
        y=[value_of(trial, up) for trial in trials],
        mode="markers",
        marker={"color": COLOURS[role][0], **marker},
        error_x=_error(trials) if across == "latency" and role != "judged" else None,
        hovertext=[hover(trial) for trial in trials],
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=[trial.number for trial in trials],
        meta={"role": role},
    )


def _add_names(figure: go.Figure, published: Sequence[Trial], across: str, up: str) -> None:
    """The names of published networks, to the left of what stands far right."""
    if not published:
        return
    places = [value_of(trial, across) or 0.0 for trial in published]
    drawn = [x for trace in figure.data for x in trace.x]
    far = min(drawn) ** 0.2 * max(drawn) ** 0.8  # axes of costs are logarithmic
    figure.add_scatter(
        x=places,
        y=[value_of(trial, up) for trial in published],
        mode="markers+text",
        text=[html.escape(trial.name) for trial in published],
        textposition=["bottom left" if x > far else "bottom right" for x in places],
        marker={"size": 9, "opacity": 0},  # keeps the text away from the diamond
        cliponaxis=False,
        hoverinfo="skip",
        meta={"role": "published"},
    )


def _add_winners(figure: go.Figure, record: Record, across: str, up: str) -> None:
    """Rings around the winners, with the words that pick them."""
    found: dict[int, list[str]] = {}
    for choice, trial in standing_out(record).items():
        if None not in (value_of(trial, across), value_of(trial, up)):
            found.setdefault(trial.number, []).append(choice)
    figure.add_scatter(
        x=[value_of(record.trial(number), across) for number in found],
        y=[value_of(record.trial(number), up) for number in found],
        mode="markers+text",
        text=[f"<b>{', '.join(choices)}</b>" for choices in found.values()],
        textposition="top center",
        marker={"size": 17, "symbol": "circle-open", "line": {"width": 2}, "color": COLOURS["winner"][0]},
        cliponaxis=False,
        hoverinfo="skip",
        meta={"role": "winner"},
    )


def _add_growing(figure: go.Figure, record: Record, shares: Sequence[float]) -> None:
    """A mark at every trial that made the volume grow."""
    before = [0.0, *shares[:-1]]
    grown = [(trial, new) for trial, old, new in zip(record.trials, before, shares, strict=True) if new > old]
    figure.add_scatter(
        x=[trial.number for trial, _ in grown],
        y=[share for _, share in grown],
        mode="markers",
        marker={"size": 7, "color": COLOURS["front"][0]},
        hovertext=[hover(trial) for trial, _ in grown],
        hovertemplate="%{hovertext}<extra></extra>",
        customdata=[trial.number for trial, _ in grown],
        meta={"role": "front"},
    )


def hover(trial: Trial) -> str:
    """What a point says: name, figures, design, knobs. Escaped, for plotly reads HTML."""
    figures = "   ".join(
        f"{TITLES[name]} {shown_of(trial, name)}" for name in TITLES if value_of(trial, name) is not None
    )
    knobs = [f"{name} {plain(value)}" for name, value in trial.knobs.items()]
    rows = [", ".join(knobs[start : start + 5]) for start in range(0, len(knobs), 5)]
    lines = [figures, design_of(trial), *rows]
    return f"<b>{html.escape(trial.name)}</b><br>" + "<br>".join(html.escape(line) for line in lines)


def _error(trials: Sequence[Trial]) -> dict[str, Any]:
    latencies = [trial.attributes.get("latency") or {} for trial in trials]
    above = [one.get("high_ms", one["median_ms"]) - one["median_ms"] for one in latencies]
    below = [one["median_ms"] - one.get("low_ms", one["median_ms"]) for one in latencies]
    return {"array": above, "arrayminus": below, "type": "data", "thickness": 1, "width": 0}


def _title(record: Record, name: str) -> str:
    if name != "score":
        return objective_of(name).label
    proxy = record.attributes.get("runner", {}).get("proxy", {})
    where = f" on {html.escape(str(proxy['data']))}" if "data" in proxy else ""
    return html.escape(metric_of(record)) + where


def _axis(values: Sequence[float], name: str) -> dict[str, Any]:
    """A linear axis for the score, a logarithmic one with round ticks for costs."""
    low, high = min(values), max(values)
    if name == "score" or low <= 0:
        margin = 0.12 * (high - low) or 0.05
        return {"range": [low - margin, high + margin]}
    margin = 0.07 * math.log10(high / low) or 0.1
    ends = [math.log10(low) - margin, math.log10(high) + margin]
    ticks = _ticks(10 ** ends[0], 10 ** ends[1])
    return {"type": "log", "range": ends, "tickvals": ticks, "ticktext": [tick_text(name, tick) for tick in ticks]}


def tick_text(name: str, value: float) -> str:
    """A round value without trailing zeros and without the unit that the axis has: 0.4, 40, 5 G."""
    return re.sub(r"\.0+(?= |$)|(\.\d*?[1-9])0+(?= |$)", r"\1", shown(name, value)).removesuffix(" ms")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`, the coarsest set that has at least four of them."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), tuple(1 + 0.1 * step for step in range(90))):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(ticks) >= 4:
            return ticks[:: math.ceil(len(ticks) / 9)]
    return [low, high]


def _layout(across: str, up: str) -> dict[str, Any]:
    return {
        "template": "none",
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 70, "r": 22, "t": 34, "b": 58},
        "xaxis": {"title": {"text": across, "standoff": 10}, "zeroline": False, "ticks": "outside", "ticklen": 4},
        "yaxis": {"title": {"text": up, "standoff": 10}, "zeroline": False},
    }
