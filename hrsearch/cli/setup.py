"""Commands about the installation and the editor."""

from dataclasses import asdict
from typing import Annotated

import typer

from hrsearch.cli.options import Json, app, examples, tell


@app.command(epilog=examples("doctor", "doctor --json"))
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


@app.command(epilog=examples("schema space", "schema recipe"))
def schema(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="space (networks, too), runner or recipe.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines: it is JSON anyway.")] = False,
) -> None:
    """Print the JSON Schema of a space, a runner or a recipe, for an editor that completes and checks YAML."""
    from hrsearch.schema import schema_of

    tell((), schema_of(what), as_json=True)
