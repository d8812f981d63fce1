"""Commands about a study that has begun."""

import errno
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from hrsearch.cli.options import Json, Quiet, Storage, StudyName, app, examples, folder_at, image_of, tell
from hrsearch.errors import InputError


@app.command(epilog=examples("report hrvit", "report hrvit --serve", "report reports/hrvit-laptop --to page.html"))
def report(
    study: StudyName,
    to: Annotated[Path | None, typer.Option(help="Another file than report.html.")] = None,
    storage: Storage = None,
    serve: Annotated[bool, typer.Option("--serve", help="Show it as a local page that follows the search.")] = False,
    host: Annotated[str, typer.Option(help="Where to serve: this machine alone by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8765,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a study's report again, and trials.csv beside it; or serve it while the search runs."""
    from hrsearch.report import write_report
    from hrsearch.study import read_study

    folder = folder_at(study, storage)
    if serve:
        if to or as_json:
            raise InputError("--serve writes no file and no JSON; leave out --to and --json")
        _serve(folder, host, port)
        return
    if to and to.name == "trials.csv":
        raise InputError(f"--to {to}: the table of trials goes there; give the page another name")
    path = write_report(read_study(folder), to or folder / "report.html")
    table = path.with_name("trials.csv")
    tell([f"wrote {path} and {table}"], {"report": str(path), "table": str(table)}, as_json, quiet)


@app.command(
    epilog=examples(
        "measure hrvit --engine onnx --image 1024x512",
        "measure hrvit --device cuda",
        "measure hrvit --engine 'command: ./bench.sh {model}' --name board",
    )
)
def measure(
    study: StudyName,
    engine: Annotated[
        str,
        typer.Option(
            help="eager, compiled, onnx, cuda, cuda-fp16, cuda-bf16 (the last three also with -graph), "
            "or 'command: ./bench.sh {model}' (prints milliseconds)."
        ),
    ] = "eager",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default the engine's.")] = None,
    image: Annotated[str | None, typer.Option(help="Height x width in pixels; by default the study's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images at once; by default the study's.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; by default the study's.")] = None,
    name: Annotated[str | None, typer.Option(help="What the report calls it; by default engine and size.")] = None,
    storage: Storage = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Measure a study's networks again, elsewhere or otherwise; nothing is retrained. Again: goes on."""
    from hrsearch.cost.latency import engine_on
    from hrsearch.progress import measured_again

    folder_at(study, storage)
    size = image_of(image) if image else None
    changes = {"engine": engine_on(engine, device), "image": size, "batch": batch, "threads": threads}
    tell(*measured_again(study, name=name, **changes), as_json, quiet)


@app.command(epilog=examples("calibrate hrvit -k 12", "calibrate hrvit -k 24 --times 5 --zero-cost"))
def calibrate(
    study: StudyName,
    count: Annotated[int, typer.Option("-k", help="How many of its networks to train; half of them of the best.")] = 12,
    times: Annotated[int, typer.Option(min=2, help="How many times as long as the proxy trains.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network, with seeds of their own.")] = 1,
    zero_cost: Annotated[bool, typer.Option("--zero-cost", help="Judge synflow, naswot and zico, too.")] = False,
    storage: Storage = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say how far a study's scores can be trusted: its proxy against long training. Again: goes on."""
    from hrsearch.progress import calibrated

    folder_at(study, storage)
    tell(*calibrated(study, count, times=times, seeds=seeds, zero_cost=zero_cost), as_json, quiet)


@app.command(epilog=examples("finalize hrvit --seeds 3", "finalize hrvit --most 8"))
def finalize(
    study: StudyName,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each network.")] = 3,
    times: Annotated[int, typer.Option(min=1, help="How many times as long as the proxy trains.")] = 3,
    most: Annotated[
        int | None, typer.Option(min=1, help="Networks at most, the front first; by default twice as many as it has.")
    ] = None,
    storage: Storage = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train the front and what is as good within the noise with more seeds; drop what was lucky. Again: goes on."""
    from hrsearch.progress import finalized

    folder_at(study, storage)
    tell(*finalized(study, seeds=seeds, times=times, most=most), as_json, quiet)


@app.command(epilog=examples("compare hrvit hrformer", "compare hrvit reports/hrvit-laptop --to both.html"))
def compare(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY", help="Two or more: names or folders.")],
    to: Annotated[Path | None, typer.Option(help="Write a page with the fronts over each other, too.")] = None,
    storage: Annotated[str | None, typer.Option(help="The database that holds all of them.")] = None,
    as_json: Json = False,
) -> None:
    """Hold studies against each other: hypervolumes in common ranges, who beats whom, luck over seeds."""
    from hrsearch.compare import compared, json_of, lines_of
    from hrsearch.study import read_study

    folders = [folder_at(study, storage) for study in studies]
    if twice := next((each for each in folders if folders.count(each) > 1), None):
        raise InputError(f"{twice} was given twice: a study compared with itself says nothing")
    found = compared([read_study(folder) for folder in folders])
    if to is not None:
        from hrsearch.report.comparison import write_comparison

        write_comparison(found, to)
    tell([*lines_of(found), *([f"wrote {to}"] if to else [])], json_of(found), as_json)


@app.command(
    epilog=examples(
        "export hrvit --pick knee --to winner/",
        "export hrvit --pick 'latency<=30ms' --format onnx --format standalone",
        "export winner/ --to product/ --format onnx",
    )
)
def export(
    study: Annotated[
        str,
        typer.Argument(
            metavar="STUDY", help="Its name below studies/, or its folder; or a winner's folder, once trained."
        ),
    ],
    pick: Annotated[
        str | None,
        typer.Option(help="knee, best, fastest, smallest, trial:17, or 'latency<=30ms'.", show_default="knee"),
    ] = None,
    to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("winner"),
    on: Annotated[str | None, typer.Option(help="Pick by what hrsearch measure found there.")] = None,
    storage: Storage = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="native (always), onnx, pt2, standalone, mmseg, timm; repeat it."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a winner to a folder: its architecture, weights, training recipe and numbers, and other formats of it.

    Of a folder that was exported and trained: what training has made of it.

    Every file is run and held against the network; one that computes something else: exit code 1.
    """
    from hrsearch.export import KEPT, ExportFailed, export_trained, is_winner

    try:
        if is_winner(Path(study)):
            _require_none(study, {"--pick": pick, "--on": on, "--storage": storage})
            folder = export_trained(Path(study), to, formats or ())
        else:
            folder = _picked(folder_at(study, storage), "knee" if pick is None else pick, on, to, formats or ())
    except ExportFailed as error:
        typer.echo(f"hrsearch: {error}", err=True)
        raise typer.Exit(1) from None
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    if "weights.safetensors" not in files:
        typer.echo(f"hrsearch: its weights do not lie in {folder_at(study, None) / 'weights'}: {KEPT}", err=True)
    found = {"folder": str(folder), "files": files}
    tell([f"wrote {folder}; train it with: hrsearch train {shlex.quote(str(folder))}"], found, as_json, quiet)


def _picked(study: Path, choice: str, on: str | None, to: Path, formats: Sequence[str]) -> Path:
    """Export a study's trial, and say what was passed over for it."""
    from hrsearch.export import export as write
    from hrsearch.pick import passed_over
    from hrsearch.study import read_study
    from hrsearch.targets import on_target
    from hrsearch.trust import to_pick_from

    record = read_study(study)
    view = to_pick_from(on_target(record, on) if on else record, choice)
    folder = write(view, choice, to, formats)
    if told := passed_over(view, choice):
        typer.echo(f"hrsearch: {told}", err=True)
    return folder


def _require_none(winner: str, options: dict[str, str | None]) -> None:
    """An InputError for an option about a study where a winner's folder is exported."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(f"{given[0]}: is for a study, but {winner} is the folder of one winner; leave it out")


def _serve(folder: Path, host: str, port: int) -> None:
    """Serve the report until Ctrl-C."""
    from hrsearch.report.serve import server_of
    from hrsearch.study import read_study

    read_study(folder)  # what is wrong with it is told now
    try:
        server = server_of(folder, host, port)
    except OSError as error:
        what = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        given = port if what == "--port" else repr(host)
        another = "another, or 0" if what == "--port" else "an address of this machine, such as 127.0.0.1"
        raise InputError(f"{what} {given}: cannot be used ({error.strerror}); give {another}") from None
    with server, suppress(KeyboardInterrupt):
        typer.echo(f"the report is at http://{server.server_address[0]!s}:{server.server_port}/; Ctrl-C ends it")
        server.serve_forever()
