"""The command line. Every command loads what it needs and nothing more."""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError

# In the order in which the help lists their commands.
from hrsearch.cli import searching, networks, studies, training, setup  # isort: skip
from hrsearch.cli.options import app, image_of
from hrsearch.errors import InputError, is_disk_full

__all__ = ["app", "image_of", "main", "networks", "searching", "setup", "studies", "training"]

AFTER_FULL_DISK = "nothing finished is lost: make room, and the same command goes on"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what ends it is one line and an exit code: see the README."""
    asked = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Typer's own way to end is a box of five lines around what was wrong.
        code = app(args=asked or ["--help"], prog_name="hrsearch", standalone_mode=False)
    except InputError as error:
        sys.exit(_told(error))
    except typer.TyperException as error:
        sys.exit(_told(_misuse(error)))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = error.filename or "the disk"
        print(f"hrsearch: {where}: no room left; {AFTER_FULL_DISK}", file=sys.stderr)
        sys.exit(1)
    sys.exit(code or 0)


def _misuse(error: typer.TyperException) -> InputError:
    """What typer says of words that make no command, in one line; it keeps to itself which value it could not read."""
    known = error.__cause__.errors() if isinstance(error.__cause__, ValidationError) else []
    got = f", but got {known[0]['input']!r}" if known else ""
    where = getattr(getattr(error, "ctx", None), "command_path", "hrsearch")
    words = " ".join(error.format_message().split()).removesuffix(".")
    return InputError(f"{words}{got}{'' if words.endswith('?') else ';'} see {where} --help")


def _told(error: InputError) -> int:
    print(f"hrsearch: {error}", file=sys.stderr)
    return error.code
