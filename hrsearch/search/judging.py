"""Runs in the worker: judges a candidate, and turns whatever goes wrong into a reason."""

import traceback
from collections.abc import Callable

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed

Evaluate = Callable[[Candidate], Judgement]


def judged(evaluate: Evaluate, candidate: Candidate) -> Judgement:
    """The judgement of `evaluate`; an exception is the judgement "failed" with its reason."""
    try:
        return evaluate(candidate)
    except CandidateFailed as error:
        return failed(str(error))
    except MemoryError:
        return failed("out of memory")
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", traceback.format_exc()[-4000:])


def failed(reason: str, trace: str | None = None) -> Judgement:
    """The judgement of a candidate that could not be judged; the reason is cut to its first line."""
    attributes = {"outcome": "failed", "reason": (reason.strip().splitlines() or ["no reason was given"])[0][:400]}
    return Judgement(attributes | ({"traceback": trace} if trace else {}))
