"""The command line. Every command loads what it needs and nothing more."""

import errno
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import typer
from pydantic import ValidationError

# In the order in which the help lists their commands.
from hrsearch.cli import searching, networks, studies, training, setup  # isort: skip
from hrsearch.cli.options import app, image_of
from hrsearch.errors import CandidateFailed, InputError, is_disk_full

__all__ = ["app", "image_of", "main", "networks", "searching", "setup", "studies", "training"]

# What the system says to a path that may not, or cannot, be written or read: the person has given it.
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
AFTER_FULL_DISK = "nothing finished is lost: make room, and the same command goes on"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what ends it is one line and an exit code: see the README."""
    asked = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        # Typer's own way to end is a box of five lines around what was wrong.
        code = app(args=asked or ["--help"], prog_name="hrsearch", standalone_mode=False)
    except InputError as error:
        sys.exit(_told(error))
    except typer.TyperException as error:
        sys.exit(_told(_misuse(error)))
    except CandidateFailed as error:  # outside of a search: there is no other candidate to go on with
        print(f"hrsearch: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        where = error.filename2 or error.filename
        if is_disk_full(error):
            print(f"hrsearch: {where or 'the disk'}: no room left; {AFTER_FULL_DISK}", file=sys.stderr)
            sys.exit(1)
        if error.errno not in REFUSED or not where:
            raise
        sys.exit(_told(InputError(f"{where}: {(error.strerror or 'cannot be used').lower()}; give another place")))
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
