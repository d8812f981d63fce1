"""The page around the sections: one HTML file that needs no network, and the table beside it."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from hrsearch.errors import InputError
from hrsearch.report.elsewhere import figures_of
from hrsearch.report.figures import COLOURS, FIGURES, Figure
from hrsearch.report.headline import headline
from hrsearch.report.markup import Markup, element
from hrsearch.report.points import archive, points
from hrsearch.report.sections import body
from hrsearch.study import Record

HERE = Path(__file__).parent
SCRIPTS = (
    "elements.js",
    "plot.js",
    "drawing.js",
    "state.js",
    "scatter.js",
    "solid.js",
    "charts.js",
    "knobs.js",
    "details.js",
    "controls.js",
    "page.js",
)  # in this order, as one script
# Nothing may be fetched: a browser refuses what is not in this file.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def write_report(record: Record, path: Path) -> Path:
    """Write the study's report to `path`, and `trials.csv` beside it. A reader never sees half a file."""
    make_room(path)
    written(path.with_name("trials.csv"), record.table().to_csv(index=False))
    written(path, page(record))
    return path


def page(record: Record) -> str:
    """The report as one HTML document."""
    figures = {name: figure for name, draw in FIGURES.items() if (figure := draw(record)) is not None}
    figures |= figures_of(record)
    told = f"Written by {_version(record)} on {datetime.now():%Y-%m-%d at %H:%M}."
    noscript = element("noscript", element("p", "The figures need JavaScript; the tables do not.", class_="note"))
    main = element("main", noscript, body(record, figures.keys()), element("footer", told))
    return document(f"{record.name}: {headline(record)}", main, figures, points(record), archive(record))


def document(
    title: str, main: Markup, figures: Mapping[str, Figure], data: Mapping[str, object], packed: str = ""
) -> str:
    """A page around `main` with the scripts that draw its figures; `data` and `packed` are what they know of trials."""
    head = element(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        element("title", title),
        element("style", Markup(_colours() + _resource("style.css"))),
    )
    known = {"FIGURES": {name: asdict(figure) for name, figure in figures.items()}, "DATA": data, "ARCHIVE": packed}
    values = "\n".join(f"const {name} = {_json(value)};" for name, value in known.items())  # no text can end the script
    scripts = [element("script", Markup(text)) for text in (values, "\n".join(map(_resource, SCRIPTS)))]
    return f"<!doctype html>\n{element('html', head, element('body', main, scripts), lang='en').text}\n"


def _json(value: object) -> str:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _colours() -> str:
    light = "".join(f"--{role}:{colour};" for role, (colour, _) in COLOURS.items())
    dark = "".join(f"--{role}:{colour};" for role, (_, colour) in COLOURS.items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _version(record: Record) -> str:
    versions = record.attributes.get("versions")
    version = str(versions.get("hrsearch", "")) if isinstance(versions, dict) else ""
    return f"hrsearch {version}" if version[:1].isdecimal() else "hrsearch"


def _resource(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def make_room(path: Path) -> None:
    """Make the folder that a page will lie in; an InputError if a folder lies where the page would."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file, such as {path / 'report.html'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # where the system makes no folders
        raise InputError(f"{path.parent}: cannot be made ({error.strerror}); give another place") from None


def written(path: Path, text: str) -> None:
    """Write a file so that nobody ever reads half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
