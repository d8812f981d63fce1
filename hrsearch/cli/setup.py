"""Commands about the installation and the editor."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from hrsearch.cli.options import Json, app, tell
from hrsearch.errors import InputError


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the installation, the machine and the engines, and say what is missing for what. Exit code 1: broken."""
    from hrsearch.doctor import examined, line_of

    found = []
    for finding in examined():
        found.append(finding)
        if not as_json:  # one after the other: some take a while
            typer.echo(line_of(finding))
    if as_json:
        tell((), [asdict(finding) for finding in found], as_json)
    if any(finding.state == "broken" for finding in found):
        raise typer.Exit(1)


@app.command()
def schema(what: Annotated[str, typer.Argument(help="space (networks, too) or runner.")]) -> None:
    """Print the JSON Schema of a space or a runner, for an editor that completes and checks YAML."""
    from hrsearch.schema import schema_of

    if what not in ("space", "runner"):
        raise InputError(f"schema {what!r} does not exist; write space or runner")
    typer.echo(json.dumps(schema_of(what), indent=2))
