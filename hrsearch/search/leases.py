"""Who runs a trial: an owner, and a lease that the owner renews while it lives."""

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

LEASE_S = 60.0
RENEW_S = 20.0

Owner = Mapping[str, Any]  # host, machine, pid, since (of the process), session (of the driver in it)


def new_owner() -> dict[str, Any]:
    """This process, as the owner of trials."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "since": _start_of(pid),
        "session": uuid4().hex[:8],
    }


def is_lost(attributes: Mapping[str, Any], me: Owner, now: float) -> bool:
    """Whether nobody runs the running trial with these attributes any more.

    On this machine the process table tells at once, and no clock that jumps is trusted; of other machines, and of an
    earlier driver in this very process, only the lease is known. A lease of 0 was given back.
    """
    owner, lease = attributes.get("owner") or {}, float(attributes.get("lease") or 0.0)
    if lease == 0 or owner.get("machine") != me["machine"] or owner.get("pid") == me["pid"]:
        return owner.get("session") != me["session"] and lease < now
    return _start_of(int(owner["pid"])) != owner.get("since")


class Leases:
    """Renews the leases of the trials that this driver runs, from a thread, until the block ends."""

    def __init__(
        self,
        renew: Callable[[int, float], bool],
        every_s: float = RENEW_S,
        at_once: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`renew(trial, until)` stores the lease, and says if the trial is still ours; a round of them `at_once`."""
        self._renew = renew
        self._at_once = at_once
        self._every_s = every_s
        self._held: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def hold(self, trial: int) -> None:
        """Renew this trial's lease from now on."""
        self._held.add(trial)

    def drop(self, trial: int) -> None:
        """Renew it no longer."""
        self._held.discard(trial)

    @property
    def held(self) -> frozenset[int]:
        """The trials that are renewed."""
        return frozenset(self._held)

    def _keep(self) -> None:
        while not self._ended.wait(self._every_s):
            with suppress(OSError), self._at_once():
                for trial in self.held:
                    self._try(trial)

    def _try(self, trial: int) -> None:
        try:
            if not self._renew(trial, until()):
                self.drop(trial)
        except OSError:
            pass  # a full disk may have room again at the next turn; the lease lasts three of them


def until() -> float:
    """The time, in seconds since the epoch, until which a lease taken now holds."""
    return time.time() + LEASE_S


@cache
def _machine() -> str:
    """What process ids are unique in: this boot of this kernel, and this container's process table."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str | None:
    """When the process started, as the system tells it ("" where it does not); None if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _start_without_proc(pid)
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]  # field 22 of proc(5); a zombie is dead


def _start_without_proc(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""
