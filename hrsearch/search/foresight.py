"""What a network's latency should be, before it is built: refuses those that are far beyond a limit."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from optuna.trial import FrozenTrial

from hrsearch.arch import Arch
from hrsearch.objective import OBJECTIVES, Limit, readable

RECORD = 10  # forecasts that were held against a measurement before one may refuse anything
LEAST = 0.2  # a network within this share of the limit is measured, however good the forecasts are

_latency = OBJECTIVES["latency"]


class Forecast(Protocol):
    """Learns from the milliseconds of the parts of measured networks, and says what another should take."""

    def learn(self, arch: Arch, part_ms: Sequence[float]) -> None:
        """Enter a measured network."""
        ...

    def expect(self, arch: Arch) -> float | None:
        """Milliseconds of a network; None where nothing is known yet."""
        ...


class Foresight:
    """The forecasts of one study, and how far they are to be trusted."""

    def __init__(self, forecast: Forecast | None, limits: Sequence[Limit]) -> None:
        self._forecast = forecast
        self._limits = [limit for limit in limits if limit.objective == "latency" and limit.kind == "at_most"]
        self._learnt: set[int] = set()
        self._errors: list[float] = []  # relative, of forecasts made before the measurement

    def learn(self, trials: Sequence[FrozenTrial]) -> None:
        """Take in the networks that were measured since the last call."""
        if self._forecast is None:
            return
        for trial in trials:
            known = trial.user_attrs
            measured = _latency.of(known)
            is_whole = trial.state.is_finished() or "rungs" in known  # which stand there last
            if trial.number in self._learnt or not is_whole or not measured:
                continue
            self._learnt.add(trial.number)
            if known.get("part_ms"):
                self._forecast.learn(Arch.from_dict(known["arch"]), known["part_ms"])
            if known.get("expected_ms"):
                self._errors.append(abs(known["expected_ms"] / measured - 1))

    def expected(self, arch: Arch) -> dict[str, float]:
        """The trial's attribute that keeps the forecast; empty where there is none."""
        expected = self._forecast.expect(arch) if self._forecast else None
        return {"expected_ms": round(expected, 4)} if expected else {}

    def refusal(self, known: Mapping[str, Any]) -> tuple[str, dict[str, float]] | None:
        """Why a network need not be built, and its violations of limits; None where it must be measured to know.

        Far beyond a limit means: further than twice what nine forecasts of ten were wrong by.
        """
        if "expected_ms" not in known or len(self._errors) < RECORD:
            return None
        usual = sorted(self._errors)[int(0.9 * len(self._errors))]
        violations = {limit: limit.violation(known["expected_ms"]) for limit in self._limits}
        far = [limit for limit, violation in violations.items() if violation > max(2 * usual, LEAST)]
        if not far:
            return None
        expected = readable(known["expected_ms"], _latency.unit)
        reason = f"{far[0]} cannot hold (from its parts {expected} are to be expected; nine of ten times within"
        return f"{reason} {usual:.0%})", {str(limit): violation for limit, violation in violations.items()}
