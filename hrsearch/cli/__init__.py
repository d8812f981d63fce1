"""The command line. Every command loads what it needs and nothing more."""

import sys
from collections.abc import Sequence

# In the order in which the help lists their commands.
from hrsearch.cli import searching, networks, studies, training, setup  # isort: skip
from hrsearch.cli.options import app, image_of
from hrsearch.errors import InputError, is_disk_full

__all__ = ["app", "image_of", "main", "networks", "searching", "setup", "studies", "training"]

AFTER_FULL_DISK = "nothing finished is lost: make room, and the same command goes on"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what ends it is one line and an exit code: see the README."""
    try:
        app(args=list(arguments) if arguments is not None else None, prog_name="hrsearch")
    except InputError as error:
        sys.exit(_told(error))
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:
        if not is_disk_full(error):
            raise
        where = error.filename or "the disk"
        print(f"hrsearch: {where}: no room left; {AFTER_FULL_DISK}", file=sys.stderr)
        sys.exit(1)


def _told(error: InputError) -> int:
    print(f"hrsearch: {error}", file=sys.stderr)
    return error.code
