"""The engine that judges in the driver's own thread: what is submitted has ended when `submit` returns."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

from hrsearch.search.engines.setup import Workers

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Inline(Workers):
    """Runs at once, one at a time, so that a search depends on its seed alone. It cannot end what takes too long."""

    workers = 1

    def submit(self, function: Callable[Given, Result], /, *args: Given.args, **kwargs: Given.kwargs) -> Future[Result]:
        """The finished future of a call. Ctrl-C is not caught: it ends the search, not the candidate."""
        future: Future[Result] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
