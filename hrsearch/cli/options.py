"""What the commands share: the application that they are entered in, and the options that several of them take."""

import json
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from hrsearch.errors import InputError

app = typer.Typer(
    pretty_exceptions_enable=False,
    help="Search high-resolution vision backbones for the networks that are best on your data and your device.",
)


def _version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(f"hrsearch {version('hrsearch')}")
        except PackageNotFoundError:
            typer.echo("hrsearch of a checkout that is not installed")
        raise typer.Exit


@app.callback()
def _of_all_commands(
    told: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Its version.")] = False,
) -> None:
    """Options that stand before the command."""


def _without_bars(quiet: bool) -> bool:
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is loaded, which commands do later
    return quiet


SpaceFile = Annotated[str, typer.Argument(metavar="SPACE", help="A YAML file, or a shipped name such as hrvit.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Its name below studies/, or its folder.")]
Task = Annotated[str | None, typer.Option(help="Whose head: segment, classify, pose or as the file says.")]
Data = Annotated[
    str | None,
    typer.Option(help="digits, six_digits, hard_digits, or a folder, which hrsearch data FOLDER looks at first."),
]
Limits = Annotated[
    list[str] | None, typer.Option("--limit", help="flops=5G, latency=30ms, params=10M, memory=200M; repeat it.")
]
RunnerFile = Annotated[str | None, typer.Option("--runner", help="How to judge: laptop, gpu, smoke or a YAML file.")]
Classes = Annotated[int, typer.Option(min=1, help="Classes that the head tells apart.")]
Json = Annotated[bool, typer.Option("--json", help="For machines: the answer as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", callback=_without_bars, help="Say nothing but what goes wrong.")]
STORAGE = "The database that holds the study: postgresql://user@host/database or sqlite:///file."
Storage = Annotated[str | None, typer.Option(help=STORAGE)]


def examples(*lines: str) -> str:
    """What the help of a command ends with: so it is typed, a line each, without the `hrsearch` that all begin with."""
    return "\n".join(["Examples:", *(f"hrsearch {line}" for line in lines)])


def tell(lines: Iterable[str], found: object, as_json: bool, quiet: bool = False) -> None:
    """What a command found, as JSON or in words; what is told meanwhile goes to stderr."""
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif not quiet:
        typer.echo("\n".join(lines))


def image_of(text: str) -> tuple[int, int]:
    """`512` or `1024x512` (height x width) as numbers; else an InputError."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--image {text!r} cannot be read; write 512 or 1024x512 (height x width)")
    return int(parts[0]), int(parts[-1])


def budget_of(budget: int | None, hours: float | None) -> int | None:
    """Candidates: 200 where nothing else ends a search."""
    return 200 if budget is None and hours is None else budget


def folder_at(study: str, storage: str | None) -> Path:
    """The folder of a study that has begun; with `storage`, one that points to it there, where it is."""
    from hrsearch.storage import point_to
    from hrsearch.study import folder_of

    folder = folder_of(study)
    if storage:
        point_to(folder, storage, begins=False)
    return folder
