"""The report's sections: functions from a record to HTML, in the order of `body`. None leaves a section out."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import yaml

from hrsearch.arch import Arch
from hrsearch.pick import trained_of, value_of
from hrsearch.report.drawing import drawing
from hrsearch.report.figures import FIGURES, growth_of
from hrsearch.report.headline import comparisons, headline, is_finished, standing_out, summary
from hrsearch.report.markup import Markup, element, joined
from hrsearch.report.words import (
    NOTHING,
    TITLES,
    arch_of,
    counted,
    design_of,
    duration,
    interval_of,
    kinds_of,
    metric_of,
    outcomes,
    plain,
    shown,
    shown_of,
    study_argument,
)
from hrsearch.study import Record, Trial

FLOPS = (
    "FLOPs are multiply-accumulates: one multiply-accumulate is one. Softmax, norms and activations are not counted."
)
CARDS = {"knee": "The knee", "best": "The best score", "fastest": "The fastest", "smallest": "The smallest"}
WHY = {
    "knee": "most of everything: where the front bends",
    "best": "whatever it costs",
    "fastest": "lowest latency of all",
    "smallest": "fewest parameters",
}


def body(record: Record, drawn: Collection[str]) -> Markup:
    """The page's sections one after the other; `drawn` names the figures that have data."""
    return joined(
        (
            opening(record),
            podium(record),
            front_figures(drawn),
            front_table(record),
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


def podium(record: Record) -> Markup | None:
    """A card for each winner, with the drawing of its network and the command that exports it."""
    grouped: dict[int, list[str]] = {}
    for choice, trial in standing_out(record).items():
        grouped.setdefault(trial.number, []).append(choice)
    cards = [_card(record, record.trial(number), choices) for number, choices in grouped.items()]
    note = element("p", "In the drawings a bar is a block, its height grows with its channels.", class_="note")
    return element("section", element("div", cards, class_="cards"), note, aria_label="Winners") if cards else None


def front_figures(drawn: Collection[str]) -> Markup | None:
    """The score against every cost."""
    figures = _figures(drawn, [name for name in FIGURES if name.startswith("score_against_")])
    if not figures:
        return None
    key = element(
        "p",
        _sign("front", "●", "on the front of all objectives"),
        _sign("judged", "●", "judged"),
        _sign("published", "◆", "published network"),
        _sign("winner", "○", "winner"),
        element("span", "Line: the front of the two axes alone. Hover over a point for its design."),
        class_="key",
    )
    return element("section", element("h2", "The front"), key, element("div", figures, class_="figures"))


def front_table(record: Record) -> Markup | None:
    """The networks of the front, best score first."""
    front = record.front()
    if not front:
        return None
    titles = {choice: trial.number for choice, trial in standing_out(record).items()}
    columns = [name for name in TITLES if any(value_of(trial, name) is not None for trial in front)]
    heads = [_head(record, name) for name in columns]
    head = element("tr", element("th", "Network", scope="col"), heads, element("th", "Design", scope="col"))
    rows = [
        _row(trial, columns, [choice for choice, number in titles.items() if number == trial.number]) for trial in front
    ]
    table = element("table", element("thead", head), element("tbody", rows))
    all_of_them = element("a", "trials.csv", href="trials.csv")
    note = element(
        "p",
        "Small figures: 95 % interval of the median. Every trial with its knobs is in ",
        all_of_them,
        ".",
        class_="note",
    )
    title = f"{counted(len(front), 'network')} on the front"
    return element("section", element("h2", title), element("div", table, class_="scroll"), note)


def progress(record: Record, drawn: Collection[str]) -> Markup | None:
    """How the hypervolume grew, and how latency goes with FLOPs."""
    grown, speed = _figures(drawn, ["growth"]), _figures(drawn, ["latency_against_flops"])
    if not grown:
        return None
    growing = element("div", element("h2", "How the front grew"), element("p", _growing(record)), grown)
    costs = (
        element("div", element("h2", "FLOPs are not speed"), element("p", _spread(record)), speed) if speed else None
    )
    return element("section", growing, costs, class_="figures")


def ends(record: Record) -> Markup | None:
    """What was refused or failed, counted by reason."""
    found = outcomes(record)
    if not record.trials:
        return None
    states = Counter(trial.state for trial in record.trials)
    rows = (
        [_end("trained", "judged in every objective", states["trained"], len(record.trials), "")]
        if states["trained"]
        else []
    )
    for outcome in found:
        some = "trial " + ", ".join(map(str, outcome.numbers[:6])) + (", …" if len(outcome.numbers) > 6 else "")
        rows.append(_end(outcome.state, outcome.reason, len(outcome.numbers), len(record.trials), some))
    table = element("table", element("tbody", rows), class_="ends")
    return element("section", element("h2", "What became of the candidates"), element("div", table, class_="scroll"))


def protocol(record: Record) -> Markup:
    """How candidates were judged, on which machine, with which versions."""
    runner = record.attributes.get("runner", {})
    groups = [
        ("Score", _facts(runner.get("proxy", {}), PROXY)),
        ("Latency", _facts(runner.get("measure", {}) | {"device": runner.get("device")}, MEASURE)),
        ("Search", _facts(runner.get("search", {}) | runner.get("engine", {}), SEARCH)),
        ("Machine", _mapping(record.attributes.get("machine"))),
        ("Versions", _mapping(record.attributes.get("versions"))),
        ("Study", _study(record)),
    ]
    boxes = [element("div", element("h3", title), element("dl", facts)) for title, facts in groups if facts]
    texts = [
        element("p", FLOPS),
        element(
            "p",
            "Candidates train at the proxy's crop and are timed at the deployment size. "
            "A score is one short training with one seed: small differences between scores are chance.",
        ),
    ]
    more = [
        _folded("The space as it was searched", str(record.attributes.get("space") or "")),
        _folded("The runner in full", yaml.safe_dump(runner, sort_keys=False) if runner else ""),
    ]
    return element("section", element("h2", "Protocol"), texts, element("div", boxes, class_="facts"), more)


def next_steps(record: Record) -> Markup:
    """The exact commands that go on from here."""
    study = study_argument(record)
    budget = record.attributes.get("budget") or len(record.trials)
    run = (
        record.attributes.get("command")
        or f"hrsearch run {record.attributes.get('space_path', 'SPACE')} --name {study} --budget {budget}"
    )
    proxy = record.attributes.get("runner", {}).get("proxy", {})
    steps = []
    if trained_of(record):
        steps = [
            _step(
                "Take the winner",
                f"hrsearch export {study} --pick knee --to winner/",
                "or --pick best, fastest, smallest, trial:17, 'latency<=30ms'",
            ),
            _step(
                "Train it",
                f"hrsearch train winner/ --data {proxy.get('data', 'digits')}",
                "or --data PATH: a folder with images/ and masks/",
            ),
        ]
    going = "a larger --budget searches on"
    why = f"the study is complete; {going}" if is_finished(record) else f"the same command finishes the study; {going}"
    steps += [
        _step("Go on searching", run, why),
        _step("Write this page again", f"hrsearch report {study}", "from the study as it stands"),
    ]
    return element("section", element("h2", "How to go on"), element("ol", steps, class_="steps"))


PROXY = {
    "data": "data",
    "image": "training crop, pixels",
    "batch": "batch",
    "steps": "steps",
    "rate": "peak learning rate",
    "train_images": "training images",
    "val_images": "validation images",
    "precision": "precision",
}
MEASURE = {
    "image": "deployment image, pixels",
    "batch": "batch",
    "engine": "engine",
    "device": "device",
    "threads": "threads",
}
SEARCH = {
    "sampler": "sampler",
    "seed": "seed",
    "objectives": "objectives",
    "limits": "limits",
    "kind": "engine",
    "workers": "workers",
}


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
        _command(command),
        class_="card",
    )


def _kinds(arch: Arch) -> Markup | None:
    kinds = kinds_of(branch for stage in arch.stages for branch in stage.branches)
    signs = [_sign(f"kind{index % 4}", "■", kind) for index, kind in enumerate(kinds)]
    return element("p", signs, class_="key") if len(kinds) > 1 else None


def _number(record: Record, trial: Trial, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("div", element("dt", title), element("dd", shown_of(trial, name)))


def _figures(drawn: Collection[str], names: list[str]) -> list[Markup]:
    shown = [name for name in names if name in drawn]
    return [element("div", class_="figure", data_figure=name, id=f"figure-{name}") for name in shown]


def _sign(role: str, sign: str, text: str) -> Markup:
    return element("span", element("i", sign, class_=role), text)


def _row(trial: Trial, columns: list[str], choices: list[str]) -> Markup:
    badges = [element("span", choice, class_="badge") for choice in choices]
    if trial.attributes.get("known"):
        badges.append(element("span", "published", class_="badge published"))
    cells = [_cell(trial, name) for name in columns]
    name = element("th", trial.name, badges, scope="row")
    return element("tr", name, cells, element("td", design_of(trial), class_="design"), id=f"trial-{trial.number}")


def _head(record: Record, name: str) -> Markup:
    title = metric_of(record) if name == "score" else TITLES[name]
    return element("th", title, scope="col", colspan="2" if name == "latency" else None, class_=f"of-{name}")


def _cell(trial: Trial, name: str) -> tuple[Markup, ...]:
    value = element("td", shown_of(trial, name))
    return (value, element("td", interval_of(trial), class_="interval")) if name == "latency" else (value,)


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


def _spread(record: Record) -> str:
    trials = [t for t in trained_of(record) if value_of(t, "latency") and value_of(t, "flops")]
    rates = sorted((value_of(t, "flops") or 0.0) / (value_of(t, "latency") or 1.0) * 1e3 for t in trials)
    if len(rates) < 2:
        return "Multiply-accumulates against measured latency."
    return (
        f"A network here does between {shown('flops', rates[0])} and {shown('flops', rates[-1])} multiply-accumulates "
        f"a second: {rates[-1] / rates[0]:.1f} times as many in one design as in another."
    )


def _end(state: str, reason: str, count: int, total: int, some: str) -> Markup:
    bar = element("div", class_=f"bar {state}", style=f"width:{100 * count / total:.1f}%")
    cells = [
        element("th", state, scope="row"),
        element("td", count),
        element("td", bar, class_="share"),
        element("td", reason, element("small", some) if some else None),
    ]
    return element("tr", cells)


def _facts(section: Mapping[str, Any], titles: Mapping[str, str]) -> list[Markup]:
    known = {key: section[key] for key in titles if section.get(key) is not None}
    if known.get("workers") == 0:
        known["workers"] = "one per core"
    return [_fact(titles[key], value) for key, value in known.items()]


def _mapping(value: Any) -> list[Markup]:
    if isinstance(value, Mapping):
        return [_fact(str(key), inner) for key, inner in value.items() if inner is not None]
    return [_fact("", value)] if value else []


def _study(record: Record) -> list[Markup]:
    moments = [moment for trial in record.trials for moment in (trial.started, trial.finished) if moment]
    seconds = sum(float(trial.attributes.get("seconds") or 0.0) for trial in record.trials)
    facts = {
        "began": f"{min(moments):%Y-%m-%d %H:%M}" if moments else None,
        "last change": f"{max(moments):%Y-%m-%d %H:%M}" if moments else None,
        "judging, all workers": duration(seconds) if seconds else None,
        "protocol": record.attributes.get("protocol"),
        "data split": record.attributes.get("split"),
        "reference network, ms": _rounded(record.attributes.get("reference_ms")),
    }
    return [_fact(key, value) for key, value in facts.items() if value is not None]


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _fact(title: str, value: Any) -> Markup:
    return element("div", element("dt", title), element("dd", plain(value) or NOTHING))


def _folded(title: str, text: str) -> Markup | None:
    return element("details", element("summary", title), element("pre", text)) if text else None


def _step(title: str, command: str, hint: str) -> Markup:
    return element("li", element("b", title), _command(command), element("small", hint))


def _command(command: str) -> Markup:
    button = element("button", "copy", type="button", class_="copy", aria_label=f"Copy: {command}")
    words = [(" " if index else "", element("span", word)) for index, word in enumerate(command.split(" "))]
    return element("div", element("code", words), button, class_="command")
