"""Which knobs matter for which objective, and what each of them does there."""

from collections.abc import Mapping, Sequence
from functools import partial

from hrsearch.objective import Objective
from hrsearch.pick import value_of
from hrsearch.report.effects import FEWEST as FEWEST_OF_A_LEVEL
from hrsearch.report.effects import Effect, effects
from hrsearch.report.headline import noun
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import TITLES, counted, metric_of, plain, shown
from hrsearch.study import Record, Trial, importances, telling

FEWEST = 10  # candidates from which importances are told
CLEAREST = 6  # sentences
IMPORTANCE = (
    "Importance is the knob's share in what sets the best {} of {} apart from all of them in that objective alone "
    "(PED-ANOVA)."
)
EFFECTS = (
    "The effects come from a sum of one number per knob and level, fitted to all of them, in the objective's own unit; "
    f"levels that fewer than {FEWEST_OF_A_LEVEL} have are fitted, too, but nothing is said of them. "
    "Intervals hold 95 % of 200 resamples."
)
TOO_FEW = "They are too few to tell what single levels do."
CHOSEN = "The search chose what to draw: this is what went together, not a proof."


def knobs(record: Record) -> Markup | None:
    """The table of knobs, the clear effects in words, and every step folded away."""
    shares = importances_of(record)
    if not shares:
        return None
    found = effects(record)
    whole = {effect.knob: effect for effect in reversed(found)}
    sentences = [element("li", sentence) for sentence in clear(record, list(whole.values()))]
    count = len(_drawn(record))
    told = IMPORTANCE.format(telling(count), counted(count, "candidate"))
    return element(
        "section",
        element("h2", "Which knobs matter"),
        element("p", f"{told} {EFFECTS if found else TOO_FEW} {CHOSEN}"),
        element("ul", sentences, class_="clear") if sentences else None,
        _table(record, _order(record, shares, whole), shares, whole),
        _steps(record, found),
    )


def importances_of(record: Record) -> dict[str, dict[str, float]]:
    """The importance of every knob, by objective; empty where there are too few candidates."""
    trials = _drawn(record)
    if len(trials) < FEWEST:
        return {}
    return importances(trials, {one.name: partial(_loss, one) for one in record.objectives})


def _drawn(record: Record) -> list[Trial]:
    return [trial for trial in record.trained if trial.knobs]


def _order(record: Record, shares: Mapping[str, Mapping[str, float]], whole: Mapping[str, Effect]) -> list[str]:
    """What is clear comes first: the largest effect on the first objective, any clear one, the importance."""
    names = [objective.name for objective in record.objectives]

    def rank(knob: str) -> tuple[float, bool, float]:
        effect = whole.get(knob)
        first = abs(effect.gains[names[0]][0]) if effect and effect.is_clear(names[0]) else 0.0
        unclear = not effect or not any(map(effect.is_clear, names))
        return -first, unclear, -shares[names[0]].get(knob, 0.0)

    return sorted({knob: None for one in shares.values() for knob in one}, key=rank)


def clear(record: Record, found: Sequence[Effect]) -> list[str]:
    """The effects whose interval leaves out zero, the widest ranges of the first objective first, in words."""
    names = [objective.name for objective in record.objectives]
    telling = [effect for effect in found if effect.is_clear(names[0])]
    telling.sort(key=lambda effect: -abs(effect.gains[names[0]][0]))
    return [_sentence(record, effect, names) for effect in telling[:CLEAREST]]


def signed(name: str, value: float) -> str:
    """A difference in an objective: +3.02 ms, −0.040."""
    return f"{'−' if value < 0 else '+'}{shown(name, abs(value))}"


def _sentence(record: Record, effect: Effect, names: Sequence[str]) -> str:
    said = [
        f"{signed(name, gain)} {metric_of(record) if name == 'score' else noun(name)} "
        f"({signed(name, low)} to {signed(name, high)})"
        for name, (gain, low, high) in ((name, effect.gains[name]) for name in names)
        if effect.is_clear(name)
    ]
    return f"{effect.knob} {plain(effect.before)} → {plain(effect.after)}: {', '.join(said)}"


def _table(
    record: Record,
    order: Sequence[str],
    shares: Mapping[str, Mapping[str, float]],
    whole: Mapping[str, Effect],
) -> Markup:
    names = list(shares)
    top = element(
        "tr",
        element("th", "Knob", scope="col", rowspan="2"),
        element("th", "Importance for", scope="colgroup", colspan=str(len(names))),
        element(
            "th",
            f"From the lowest to the highest level that {FEWEST_OF_A_LEVEL} have",
            scope="colgroup",
            colspan=str(len(names) + 1),
        )
        if whole
        else "",
    )
    heads = [element("th", _title(record, name), scope="col") for name in names]
    under = element("tr", heads, (element("th", "levels", scope="col"), heads) if whole else "")
    rows = [_row(knob, names, shares, whole.get(knob), bool(whole)) for knob in order]
    table = element("table", element("thead", top, under), element("tbody", rows), class_="knobs")
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Knobs")


def _row(
    knob: str,
    names: Sequence[str],
    shares: Mapping[str, Mapping[str, float]],
    effect: Effect | None,
    wide: bool,
) -> Markup:
    bars = [element("td", _bar(shares[name].get(knob, 0.0), max(shares[name].values(), default=0.0))) for name in names]
    cells: list[Markup] = []
    if wide and effect:
        levels = f"{plain(effect.before)} → {plain(effect.after)}"
        cells = [element("td", levels), *(_gain(effect, name) for name in names)]
    elif wide:
        cells = [element("td", "too few to tell", colspan=str(len(names) + 1))]
    return element("tr", element("th", knob, scope="row"), bars, cells)


def _bar(share: float, largest: float) -> tuple[Markup, Markup]:
    width = f"width:{4 * share / (largest or 1.0):.2f}rem"
    return element("div", class_="bar trained", style=width), element("small", f"{share:.0%}")


def _gain(effect: Effect, name: str) -> Markup:
    gain, low, high = effect.gains[name]
    words = element("small", f"{signed(name, low)} to {signed(name, high)}")
    return element("td", signed(name, gain), words, class_="clear" if effect.is_clear(name) else "unclear")


def _steps(record: Record, found: Sequence[Effect]) -> Markup | None:
    """Every step between neighbouring levels."""
    if not found:
        return None
    names = list(found[0].gains)
    heads = [element("th", text, scope="col") for text in ("Knob", "Step", *(_title(record, name) for name in names))]
    rows = [
        element(
            "tr",
            element("th", effect.knob, scope="row"),
            element("td", f"{plain(effect.before)} → {plain(effect.after)}"),
            [_gain(effect, name) for name in names],
        )
        for effect in found
    ]
    table = element("table", element("thead", element("tr", heads)), element("tbody", rows), class_="knobs")
    box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Every step of every knob")
    return element("details", element("summary", "Every step of every knob"), box)


def _loss(objective: Objective, trial: Trial) -> float:
    value = value_of(trial, objective.name) or 0.0
    return -value if objective.direction == "maximize" else value


def _title(record: Record, name: str) -> str:
    return metric_of(record) if name == "score" else TITLES[name]
