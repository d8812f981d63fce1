"""Modules that are made once, while networks are only counted."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from torch import nn

Factory = Callable[..., nn.Module]

_made: ContextVar[dict[Hashable, nn.Module] | None] = ContextVar("made", default=None)


def shared(factory: Factory) -> Factory:
    """A factory that gives the same module for equal arguments inside `sharing`, elsewhere a new one as ever.

    For the paths of links: thousands of pyramids differ, but are made of the same few paths. What it makes must not
    stand twice in one piece, as a module's parameters are counted once.
    """

    @wraps(factory)
    def make(*args: Hashable) -> nn.Module:
        made = _made.get()
        if made is None:
            return factory(*args)
        key = (factory, *args)
        if key not in made:
            made[key] = factory(*args)
        return made[key]

    return make


@contextmanager
def sharing(made: dict[Hashable, nn.Module]) -> Iterator[None]:
    """Inside, in this thread, shared factories look into `made` first and leave there what they make."""
    token = _made.set(made)
    try:
        yield
    finally:
        _made.reset(token)
