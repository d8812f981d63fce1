"""What sets a winner apart from the published network that is nearest to it: a table, a column per resolution."""

import math
from collections.abc import Callable, Sequence

from hrsearch.arch import Arch, Branch
from hrsearch.pick import value_of
from hrsearch.report.headline import published, standing_out
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import NOTHING, arch_of, plain
from hrsearch.study import Record, Trial

SAME = "The same in all that is compared."
WORDS = (
    "From the published network that is nearest in FLOPs and parameters (left of the arrow) to the winner, at every "
    "resolution; blocks of all stages together, the rest of the last stage that has it. Grey: the same."
)
FEATURES: dict[str, Callable[[Sequence[Branch]], str]] = {
    "channels": lambda branches: str(branches[-1].channels),
    "blocks": lambda branches: str(sum(branch.depth for branch in branches)),
    "kind": lambda branches: _last([branch.block.kind for branch in branches if branch.block]),
    "window": lambda branches: _option(branches, "window"),
    "expansion": lambda branches: _option(branches, "ratio"),
}


def apart(record: Record) -> Markup | None:
    """A table for each winner; None without a published network."""
    shown: dict[int, Markup] = {}
    for trial in standing_out(record).values():
        known = nearest(record, trial)
        ours, theirs = arch_of(trial), arch_of(known) if known else None
        if known and ours and theirs and trial.number not in shown:
            name = f"{known.name} → {trial.name}"
            shown[trial.number] = element("div", element("h3", name), _table(name, ours, theirs), _head(ours, theirs))
    title = element("h2", "What sets the winners apart")
    tables = element("div", [*shown.values()], class_="apart")
    return element("section", title, element("p", WORDS), tables) if shown else None


def nearest(record: Record, trial: Trial) -> Trial | None:
    """The published network whose FLOPs and parameters are nearest in ratio, itself excepted."""
    others = [known for known in published(record) if known is not trial and known.attributes.get("arch")]
    return min(others, key=lambda known: _distance(trial, known), default=None)


def differences(ours: Arch, theirs: Arch) -> dict[str, dict[int, tuple[str, str]]]:
    """What differs between two networks, by feature: their value and ours at each stride, – where it has none."""
    mine, its = _by_stride(ours), _by_stride(theirs)
    found = {
        name: {stride: (_said(of, its.get(stride)), _said(of, mine.get(stride))) for stride in sorted({*mine, *its})}
        for name, of in FEATURES.items()
    }
    return {name: pairs for name, pairs in found.items() if any(before != after for before, after in pairs.values())}


def of_heads(ours: Arch, theirs: Arch) -> list[str]:
    """How their head becomes ours: `width 256 → 64`."""
    if ours.head.kind != theirs.head.kind:
        return [f"{theirs.head.kind} → {ours.head.kind}"]
    before, after = theirs.head.keywords(), ours.head.keywords()
    return [f"{name} {plain(before[name])} → {plain(after[name])}" for name in before if before[name] != after[name]]


def _table(name: str, ours: Arch, theirs: Arch) -> Markup | None:
    found = differences(ours, theirs)
    strides = next(iter(found.values()), {})
    heads = [element("th", f"1/{stride}", scope="col") for stride in strides]
    top = element("thead", element("tr", element("td"), heads))
    rows = [
        element("tr", element("th", feature, scope="row"), [_cell(*pair) for pair in pairs.values()])
        for feature, pairs in found.items()
    ]
    table = element("table", top, element("tbody", rows))
    scroll = element("div", table, class_="scroll", tabindex="0", role="region", aria_label=name)
    return scroll if found else None


def _cell(before: str, after: str) -> Markup:
    same = before == after
    return element("td", before if same else f"{before} → {after}", class_="unclear" if same else None)


def _head(ours: Arch, theirs: Arch) -> Markup | None:
    words = of_heads(ours, theirs)
    if words:
        return element("p", f"Head: {', '.join(words)}.", class_="note")
    return None if differences(ours, theirs) else element("p", SAME, class_="note")


def _by_stride(arch: Arch) -> dict[int, list[Branch]]:
    found: dict[int, list[Branch]] = {}
    for stage in arch.stages:
        for branch in stage.branches:
            found.setdefault(branch.stride, []).append(branch)
    return dict(sorted(found.items()))


def _said(of: Callable[[Sequence[Branch]], str], branches: Sequence[Branch] | None) -> str:
    return of(branches) if branches else NOTHING


def _option(branches: Sequence[Branch], name: str) -> str:
    """The option of the last block that has it, as text."""
    values = [branch.block.keywords()[name] for branch in branches if branch.block and name in branch.block.keywords()]
    return _last([plain(int(v) if isinstance(v, float) and v.is_integer() else v) for v in values])


def _last(texts: Sequence[str]) -> str:
    return texts[-1] if texts else NOTHING


def _distance(trial: Trial, known: Trial) -> float:
    pairs = [(value_of(trial, name), value_of(known, name)) for name in ("flops", "params")]
    return sum(abs(math.log(a / b)) for a, b in pairs if a and b)
