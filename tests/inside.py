"""The command line within the test's own process: the same commands without a new Python, which takes seconds, each."""

from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hrsearch.cli import main


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def inside(folder: Path, *arguments: str) -> Done:
    """Run `hrsearch ARGUMENTS` in `folder`."""
    out, err = StringIO(), StringIO()
    code: object = 0
    with chdir(folder), redirect_stdout(out), redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code or 0
    return Done(int(str(code)), out.getvalue(), err.getvalue())
