"""What sets a winner apart from the published network that is nearest to it, in words."""

import math
from collections.abc import Callable, Iterator, Sequence

from hrsearch.arch import Arch, Branch
from hrsearch.pick import value_of
from hrsearch.report.headline import capital, published, standing_out
from hrsearch.report.markup import Markup, element
from hrsearch.report.words import arch_of, kinds_of, plain, spelled
from hrsearch.study import Record, Trial

SAME = "the same in all that is drawn"


def apart(record: Record) -> Markup | None:
    """A paragraph for each winner; None without a published network."""
    said: dict[int, str] = {}
    for trial in standing_out(record).values():
        known = nearest(record, trial)
        if known is not None and trial.number not in said:
            ours, theirs = arch_of(trial), arch_of(known)
            words = spelled(list(differences(ours, theirs))) if ours and theirs else ""
            said[trial.number] = f"{capital(trial.name)} against {known.name}: {words or SAME}."
    title = element("h2", "What sets the winners apart")
    return element("section", title, [element("p", text) for text in said.values()]) if said else None


def nearest(record: Record, trial: Trial) -> Trial | None:
    """The published network whose FLOPs and parameters are nearest in ratio, itself excepted."""
    others = [known for known in published(record) if known is not trial and known.attributes.get("arch")]
    return min(others, key=lambda known: _distance(trial, known), default=None)


def differences(ours: Arch, theirs: Arch) -> Iterator[str]:
    """Where the last stages that have a resolution differ, finest first: `widths 24·64 where it has 32·64`."""
    a, b = _by_stride(ours), _by_stride(theirs)
    if list(a) != list(b):
        yield f"maps at {_where(list(a))} where it has them at {_where(list(b))}"
    features: list[tuple[str, Callable[[Sequence[Branch]], str]]] = [
        ("widths", lambda branches: str(branches[-1].channels)),
        ("blocks", lambda branches: str(sum(branch.depth for branch in branches))),
        ("windows", lambda branches: _option(branches, "window")),
        ("expansions", lambda branches: _option(branches, "ratio")),
    ]
    for name, of in features:
        mine, its = ("·".join(map(of, branches.values())) for branches in (a, b))
        if mine != its:
            yield f"{name} {mine} where it has {its}"
    kinds, its_kinds = (kinds_of(one for stage in arch.stages for one in stage.branches) for arch in (ours, theirs))
    if set(kinds) != set(its_kinds):
        yield f"{spelled(kinds) or 'no'} blocks where it has {spelled(its_kinds) or 'none'}"
    if ours.head != theirs.head:
        yield "another head" if ours.head.kind != theirs.head.kind else "other options of the head"


def _by_stride(arch: Arch) -> dict[int, list[Branch]]:
    found: dict[int, list[Branch]] = {}
    for stage in arch.stages:
        for branch in stage.branches:
            found.setdefault(branch.stride, []).append(branch)
    return dict(sorted(found.items()))


def _option(branches: Sequence[Branch], name: str) -> str:
    """The option of the last block that has it, as text."""
    values = [branch.block.keywords()[name] for branch in branches if branch.block and name in branch.block.keywords()]
    value = values[-1] if values else None
    return "–" if value is None else plain(int(value) if isinstance(value, float) and value.is_integer() else value)


def _where(strides: Sequence[int]) -> str:
    return f"1/{strides[0]} to 1/{strides[-1]}"


def _distance(trial: Trial, known: Trial) -> float:
    pairs = [(value_of(trial, name), value_of(known, name)) for name in ("flops", "params")]
    return sum(abs(math.log(a / b)) for a, b in pairs if a and b)
