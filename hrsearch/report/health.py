"""How well the latencies of a study were measured: their certificates, added up."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hrsearch.report.markup import Markup, element
from hrsearch.report.words import counted
from hrsearch.study import Record

Certificates = Sequence[Mapping[str, Any]]


def health(record: Record) -> Markup | None:
    """What the certificates say, in sentences; None where nothing was measured."""
    measured = [trial for trial in record.trials if trial.attributes.get("latency")]
    if not measured:
        return None
    found = [trial.attributes["latency"] for trial in measured]
    unsteady = [trial for trial in measured if not trial.attributes["latency"].get("steady", True)]
    rows = [element("li", f"{t.name}: {t.attributes['latency'].get('trouble') or 'not steady'}") for t in unsteady]
    count = counted(len(unsteady), "measurement")
    folded = element("details", element("summary", f"{count} that stayed unsteady"), element("ul", rows))
    said = [element("p", sentence) for sentence in sentences(found)]
    title = element("h2", "How well latency was measured")
    return element("section", title, said, folded if unsteady else None)


def sentences(found: Certificates) -> Iterator[str]:
    """Steadiness and tries, widths of the intervals, samples and warm-up, the machine's load and clock."""
    steady = sum(bool(one.get("steady", True)) for one in found) / len(found)
    tries = Counter(int(one.get("tries", 1)) for one in found)
    again = sum(count for number, count in tries.items() if number > 1)
    yield (
        f"{counted(len(found), 'latency', 'latencies')}, {steady:.0%} of them steady; "
        f"{again or 'none'} had to be measured more than once{f' (up to {max(tries)} times)' if again else ''}."
    )
    widths = [(one["high_ms"] - one["low_ms"]) / 2 / one["median_ms"] for one in found if _has_interval(one)]
    if widths:
        yield (
            f"The 95 % interval is ±{statistics.median(widths):.1%} in the median, ±{max(widths):.1%} at the widest, "
            f"from {_span([one['runs'] for one in found if one.get('runs')])} samples each."
        )
    told = [("the machine's load was", "load", ""), ("the processor ran at", "clock_mhz", " MHz")]
    known = [(words, [one[key] for one in found if one.get(key) is not None], unit) for words, key, unit in told]
    parts = [f"{words} {_span(values)}{unit}" for words, values, unit in known if values]
    if parts:
        yield f"Meanwhile {' and '.join(parts)}."


def _has_interval(one: Mapping[str, Any]) -> bool:
    return bool(one.get("median_ms")) and None not in (one.get("low_ms"), one.get("high_ms"))


def _span(values: Sequence[float]) -> str:
    ends = [f"{value:,.0f}" if value >= 10 else f"{value:.3g}" for value in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
