"""Runs in the worker: judges a candidate, and turns whatever goes wrong into a reason."""

import errno
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from hrsearch.candidate import Candidate, Judgement
from hrsearch.errors import CandidateFailed, NothingToJudgeOn, as_out_of_memory, is_disk_full

Evaluate = Callable[[Candidate], Judgement]

MEMORY = "memory"  # the constraint that a candidate breaks which ran out of memory
UNJUDGED = "unjudged"  # the outcome where the disk was full or the data had changed: nobody's fault, it runs again


def judged(evaluate: Evaluate, candidate: Candidate) -> Judgement:
    """The judgement of `evaluate`; an exception is the judgement "failed" with its reason.

    A full disk and data that changed are no judgement: `raise_unjudged` makes them errors again in the driver.
    """
    try:
        return evaluate(candidate)
    except NothingToJudgeOn as error:
        return Judgement({"outcome": UNJUDGED, "reason": str(error)})
    except Exception as error:
        if is_disk_full(error):
            return Judgement({"outcome": UNJUDGED, "path": str(getattr(error, "filename", None) or candidate.folder)})
        return failed_by(error, traceback.format_exc()[-4000:])


def result_of(future: Future[Judgement]) -> Mapping[str, Any]:
    """What judging gave; raises what ends a search: the disk is full, or the data has changed."""
    try:
        attributes = future.result().attributes
    except Exception as error:  # of a broken engine, too, or something that does not pickle
        if is_disk_full(error):
            raise
        return failed_by(error).attributes
    raise_unjudged(attributes)
    return attributes


def raise_unjudged(attributes: Mapping[str, Any]) -> None:
    """Raise what kept a worker from judging, if anything did: an OSError or NothingToJudgeOn."""
    if attributes.get("outcome") == UNJUDGED:
        if "reason" in attributes:
            raise NothingToJudgeOn(attributes["reason"])
        raise OSError(errno.ENOSPC, "no room left on the disk", attributes["path"])


def failed_by(error: Exception, trace: str | None = None) -> Judgement:
    """The judgement of a candidate that an error ended; running out of memory breaks a constraint, too."""
    short = as_out_of_memory(error)
    if short:
        return Judgement({**failed(str(short)).attributes, "violations": {MEMORY: 1.0}})
    if isinstance(error, CandidateFailed):
        return failed(str(error))
    return failed(f"{type(error).__name__}: {error}", trace)


def failed(reason: str, trace: str | None = None) -> Judgement:
    """The judgement of a candidate that could not be judged; the reason is cut to its first line."""
    attributes = {"outcome": "failed", "reason": (reason.strip().splitlines() or ["no reason was given"])[0][:400]}
    return Judgement(attributes | ({"traceback": trace} if trace else {}))
