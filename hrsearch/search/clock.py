"""The hours that a study may take: those in which somebody searched, over all its sessions and drivers."""

import time
from collections.abc import Iterable

from hrsearch.search.ledger import Ledger

PREFIX = "session:"  # the study's attributes that hold when a driver searched: seconds since the epoch, from and to
NOTE_S = 10.0

Span = tuple[float, float]


class Clock:
    """Knows how long a study has been searched, and keeps its own share of that in the study."""

    def __init__(self, ledger: Ledger, session: str, hours: float | None) -> None:
        self._ledger = ledger
        self._key = f"{PREFIX}{session}"
        self._hours = hours
        self._began = time.time()
        self._start = self._noted = time.monotonic()  # a clock of the wall may jump
        self._others = spans_of(ledger.attributes)

    def tick(self, at_once: bool = False) -> None:
        """Note that this driver still searches; and what others have noted since."""
        if at_once or time.monotonic() - self._noted > NOTE_S:
            self._noted = time.monotonic()
            self._ledger.set(**{self._key: list(self._own())})
            self._others = spans_of({key: value for key, value in self._ledger.attributes.items() if key != self._key})

    @property
    def seconds(self) -> float:
        """How long the study has been searched."""
        return covered([*self._others, self._own()])

    @property
    def is_up(self) -> bool:
        """Whether the hours are spent."""
        return self._hours is not None and self.seconds >= self._hours * 3600

    def _own(self) -> Span:
        return self._began, self._began + time.monotonic() - self._start


def spans_of(attributes: dict[str, list[float]]) -> list[Span]:
    """When drivers searched the study with these attributes."""
    return [(value[0], value[1]) for key, value in attributes.items() if key.startswith(PREFIX)]


def covered(spans: Iterable[Span]) -> float:
    """Seconds that lie in at least one of the spans."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(stop - max(start, end), 0.0)
        end = max(end, stop)
    return total
