"""Errors for the person at the keyboard."""

import errno
import re
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: one line that says where, what was got and what would work. The command line exits with `code`."""

    code = 2


class NothingFits(InputError):
    """What was asked for is well said, but no network keeps it."""

    code = 3


class NothingToJudgeOn(InputError):
    """What every candidate is judged on is gone or not what it was: the search ends, and no candidate failed."""


class CandidateFailed(RuntimeError):
    """One candidate could not be judged (a loss that is not finite, no memory): its trial fails, the search goes on."""


class OutOfMemory(CandidateFailed):
    """One candidate needed more memory than there was: samplers learn from it."""


# What torch's allocators, and the loader of a library that is imported late, say of it: they raise no MemoryError.
# (A loader without room for thread-local storage has too many libraries, one that is not permitted to a disk of data.)
NO_MEMORY = (
    "out of memory|can(?:'t|not) allocate memory(?!.* static TLS)|bad_alloc|ALLOC_FAILED"
    "|failed to map segment(?!.*not permitted)"
)


def as_out_of_memory(error: BaseException) -> OutOfMemory | None:
    """The error as one of memory, of whatever device, if that is what ran out."""
    if isinstance(error, CandidateFailed):
        return error if isinstance(error, OutOfMemory) else None
    lines = str(error).strip().splitlines()
    saying = [line for line in lines if re.search(NO_MEMORY, line, re.IGNORECASE)]
    number = error.errno if isinstance(error, OSError) else None  # a loader's error has none
    by_kind = isinstance(error, MemoryError) or number == errno.ENOMEM
    by_words = isinstance(error, RuntimeError | ImportError | OSError) and number is None and saying
    if not (by_kind or by_words):
        return None
    told = saying or lines
    return OutOfMemory(f"out of memory ({told[0][:200]})" if told else "out of memory")


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room left on the disk, or none that this person may use; SQLite says so in words alone."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return str(root_of(error)) == "database or disk is full"


def root_of(error: BaseException) -> BaseException:
    """What an error was raised from in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def suggestion(got: object, choices: Iterable[object]) -> str:
    """What would have worked: the closest of `choices`, or all of them when none is close."""
    names = [str(choice) for choice in choices]
    close = get_close_matches(str(got), names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(names) or 'nothing: none exists'}"
