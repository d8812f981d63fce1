"""Where Ctrl-C may strike: while candidates are judged, never while the study is written."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import ParamSpec, Self, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Interruption:
    """Within the block, Ctrl-C raises KeyboardInterrupt at the next `allowed` place; a second one raises at once.

    Outside the main thread, and where Ctrl-C is ignored (a background job), nothing changes.
    """

    def __init__(self) -> None:
        self._open = False
        self._pending = False
        self._ours = False

    def __enter__(self) -> Self:
        self._previous = signal.getsignal(signal.SIGINT)
        in_main = threading.current_thread() is threading.main_thread()
        self._ours = in_main and self._previous is not signal.SIG_IGN
        if self._ours:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, self._previous)
        if self._pending and kind is None:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Here the study is not being written: Ctrl-C may strike."""
        self._open = True
        try:
            if self._pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = False

    def allowing(self, function: Callable[Given, Result]) -> Callable[Given, Result]:
        """`function`, as one that Ctrl-C may strike."""

        def allowed(*args: Given.args, **kwargs: Given.kwargs) -> Result:
            with self.allowed():
                return function(*args, **kwargs)

        return allowed

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self._pending = self._pending, True
        if self._open or again:
            raise KeyboardInterrupt
