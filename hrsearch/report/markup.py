"""HTML that cannot be written unescaped: plain text is escaped, only `Markup` goes in as it is."""

import html
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Markup:
    """Text that is HTML already."""

    text: str


Content = str | int | Markup | None | Iterable["Content"]


def element(name: str, *content: Content, **attributes: str | None) -> Markup:
    """`<name attributes>content</name>`; `class_` is the attribute class, `data_figure` is data-figure.

    None is left out, as content and as an attribute.
    """
    given = (
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{''.join(given)}>{joined(content).text}</{name}>")


def joined(content: Content) -> Markup:
    """The content one after the other."""
    if isinstance(content, Markup):
        return content
    if content is None:
        return Markup("")
    if isinstance(content, str | int):
        return Markup(html.escape(str(content)))
    return Markup("".join(joined(part).text for part in content))


def sign(role: str, character: str, text: str) -> Markup:
    """An entry of a figure's key: a coloured character, and what it stands for."""
    return element("span", element("i", character, class_=role), text)


def figure_place(name: str, words: str) -> Markup:
    """Where the page draws a figure."""
    return element("div", class_="figure", id=f"figure-{name}", data_figure=name, role="group", aria_label=words)
