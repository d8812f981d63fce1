"""The command line. Every command loads what it needs and nothing more."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from hrsearch.errors import InputError, is_disk_full, suggestion

DATA = "digits, six_digits, or a folder of your own: hrsearch data FOLDER says whether it can be read."
AFTER_FULL_DISK = "nothing finished is lost: make room, and the same command goes on"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Search high-resolution vision backbones for the networks that are best on your data and your device.",
)

SpaceFile = Annotated[str, typer.Argument(help="A space: a YAML file, or a shipped name such as hrvit.")]
StudyName = Annotated[str, typer.Argument(help="A study: its name below studies/, or its folder.")]
Task = Annotated[str | None, typer.Option(help="Whose head: segment, classify, pose or as the file says.")]
Image = Annotated[
    str | None, typer.Option(help="Height x width in pixels (512, 1024x512); by default the network's own.")
]
STORAGE = "The database that holds the study: postgresql://user@host/database or sqlite:///file."
Storage = Annotated[str | None, typer.Option(help=STORAGE)]
Classes = Annotated[int, typer.Option(min=1, help="Classes that the head tells apart.")]


@app.command()
def run(
    space: SpaceFile,
    budget: Annotated[
        int | None, typer.Option(help="Candidates in total, over all sessions; 200 unless hours are given.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of searching in total, over all sessions.")] = None,
    runner: Annotated[str | None, typer.Option(help="How to judge: laptop, gpu, smoke or a YAML file.")] = None,
    name: Annotated[str | None, typer.Option(help="The study's name; by default the space's.")] = None,
    storage: Annotated[str | None, typer.Option(help=STORAGE, envvar="HRSEARCH_STORAGE")] = None,
    task: Task = None,
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="score, flops, latency, params, memory, training_memory; repeat it.")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="flops=5G, latency=30ms, params=10M, memory=200M; repeat it.")
    ] = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(help="A study judged in the same way: what it trained is taken over and counts; repeat it."),
    ] = None,
) -> None:
    """Search a space. The same command again resumes the study, or says that it is finished."""
    from hrsearch.progress import searched
    from hrsearch.space import load_space

    searched(
        load_space(space, task),
        runner,
        200 if budget is None and hours is None else budget,
        hours=hours,
        name=name,
        storage=storage,
        data=data,
        objectives=objective or (),
        limits=limit or (),
        warm_start=warm_start or (),
    )


@app.command()
def plan(
    space: SpaceFile,
    budget: Annotated[int | None, typer.Option(help="Candidates; 200 unless hours are given.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours that the search may take.")] = None,
    runner: Annotated[str | None, typer.Option(help="How to judge: laptop, gpu, smoke or a YAML file.")] = None,
    task: Task = None,
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    limit: Annotated[list[str] | None, typer.Option(help="flops=5G, latency=30ms, params=10M; repeat it.")] = None,
) -> None:
    """Time a small, a median and a large candidate here, and say what fits or when it ends."""
    from hrsearch import api
    from hrsearch.planning import lines_of
    from hrsearch.runner import load_runner
    from hrsearch.space import load_space

    how = api.with_changes(load_runner(runner or api.default_runner()), data=data, limits=limit or ())
    candidates = 200 if budget is None and hours is None else budget
    for line in lines_of(api.plan(load_space(space, task), how, budget=candidates, hours=hours)):
        typer.echo(line)


@app.command()
def check(
    space: SpaceFile,
    draws: Annotated[int, typer.Option("-n", min=1, help="How many settings to draw.")] = 1000,
    seed: int = 0,
    image: Annotated[
        str, typer.Option(help="Pixels (512, 1024x512) for networks without a size of their own.")
    ] = "512",
    classes: Classes = 11,
    task: Task = None,
) -> None:
    """Draw settings at random and say what the space holds: networks, refusals, costs."""
    from hrsearch.cost import cost
    from hrsearch.space import load_space
    from hrsearch.survey import lines_of, survey

    size = image_of(image)
    outcome = survey(load_space(space, task), lambda arch: cost(arch, arch.image or size, classes), draws, seed)
    typer.echo("\n".join(lines_of(outcome, size)))


@app.command()
def sample(
    space: SpaceFile,
    count: Annotated[int, typer.Option("-n", min=1, help="How many networks.")] = 1,
    seed: int = 0,
    task: Task = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Print random networks of a space, each as a YAML that show, known: and export understand."""
    from hrsearch.grammar import yaml_of
    from hrsearch.space import load_space

    loaded = load_space(space, task)
    drawn = [loaded.sample(f"{seed}-{index}") for index in range(count)]
    if as_json:
        found = [{"digest": arch.digest(), "setting": setting, "arch": arch.to_dict()} for setting, arch in drawn]
        typer.echo(json.dumps(found, indent=2))
        return
    for setting, arch in drawn:
        knobs = " ".join(f"{name}={value}" for name, value in setting.items())
        typer.echo(f"# {arch.digest()}: {knobs}\n{yaml_of(arch, loaded.task)}---")


@app.command()
def show(
    name: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A published network such as hrvit_b1, or a network's YAML file.")
    ],
    image: Image = None,
    classes: Classes = 1000,
    task: Task = None,
    weights: Annotated[Path | None, typer.Option(help="Released weights to try: .safetensors, .pth or .pt.")] = None,
    family: Annotated[str | None, typer.Option(help="Whose names these have; by default the network's.")] = None,
    ms: Annotated[bool, typer.Option("--ms", help="Measure it here: milliseconds of every row.")] = False,
    parts: Annotated[bool, typer.Option("--parts", help="A row for every part, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """A network as a bill: per stage, branch and part its map, parameters, FLOPs and milliseconds."""
    from hrsearch.cost import cost
    from hrsearch.space import load_arch
    from hrsearch.table import by_place, certificate_of, json_of, rows_of, summary_of, text_of

    arch = load_arch(name, task)
    size = image_of(image) if image else arch.image or (224, 224)
    counted = cost(arch, size, classes)
    latency, paid = None, None
    if ms:
        from hrsearch.build import build
        from hrsearch.cost import bill_of, measure

        network = build(arch, classes)
        latency = measure(network, size)
        paid = bill_of(network, size).scaled_to(latency.median_ms)
    spent = {**paid.parts, "": paid.between} if paid else None
    rows = rows_of(arch, counted, size, spent, parts)
    loaded = None
    if weights is not None:
        from hrsearch.released.file import family_of, fit

        loaded = fit(arch, classes, weights, family or family_of(name))
    if as_json:
        told = json_of(arch, rows, counted, size, classes) | ({"weights": asdict(loaded)} if loaded else {})
        typer.echo(json.dumps(told | ({"latency": asdict(latency)} if latency else {}), indent=2))
    else:
        typer.echo(f"{text_of(rows, counted)}\n\n{text_of(by_place(arch, counted, spent), counted)}\n")
        typer.echo(summary_of(counted, size, classes))
        for line in (latency and certificate_of(latency), loaded):
            if line:
                typer.echo(line)


@app.command()
def verify(
    networks: Annotated[
        list[str] | None, typer.Argument(help="Published networks or YAML files; by default all that ship.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Count the published networks again, beside their papers' figures. One that has changed: exit code 1."""
    from hrsearch.verify import json_of, summary_of, text_of, verified

    figures, silent = verified(networks or [])
    if as_json:
        typer.echo(json.dumps(json_of(figures, silent), indent=2))
    else:
        typer.echo(f"{text_of(figures)}\n{summary_of(figures, silent)}")
    if any(figure.changed for figure in figures):
        raise typer.Exit(1)


@app.command(name="data")
def look_at_data(
    path: Annotated[Path, typer.Argument(help="A folder of your own images.")],
    task: Annotated[str | None, typer.Option(help="segment, classify or pose; by default what fits.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what a folder of your own data holds, and name all that is wrong with it. Anything wrong: exit code 1."""
    from hrsearch.proxy.data.survey import json_of, lines_of, survey
    from hrsearch.task import TASKS

    if task is not None and task not in TASKS:
        raise InputError(f"task {task!r} does not exist; {suggestion(task, TASKS)}")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give one of your own images")
    found = survey(path, task)
    typer.echo(json.dumps(json_of(found), indent=2) if as_json else "\n".join(lines_of(found)))
    if found.wrong:
        raise typer.Exit(1)


@app.command()
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
) -> None:
    """Measure a study's networks again, elsewhere or otherwise; nothing is retrained. Again: goes on."""
    from hrsearch.cost.latency import engine_on
    from hrsearch.progress import measured_again

    _folder_of(study, storage)
    size = image_of(image) if image else None
    measured_again(study, engine=engine_on(engine, device), image=size, batch=batch, threads=threads, name=name)


@app.command()
def calibrate(
    study: StudyName,
    count: Annotated[int, typer.Option("-k", help="How many of its networks to train; half of them of the best.")] = 12,
    times: Annotated[int, typer.Option(min=2, help="How many times as long as the proxy trains.")] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each network, with seeds of their own.")] = 1,
    zero_cost: Annotated[bool, typer.Option("--zero-cost", help="Judge synflow, naswot and zico, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    storage: Storage = None,
) -> None:
    """Say how far a study's scores can be trusted: its proxy against long training. Again: goes on."""
    from hrsearch.progress import calibrated

    _folder_of(study, storage)
    calibrated(study, count, times=times, seeds=seeds, zero_cost=zero_cost, as_json=as_json)


@app.command()
def finalize(
    study: StudyName,
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each network.")] = 3,
    times: Annotated[int, typer.Option(min=1, help="How many times as long as the proxy trains.")] = 3,
    storage: Storage = None,
) -> None:
    """Train the front and what is as good within the noise with more seeds; drop what was lucky. Again: goes on."""
    from hrsearch.progress import finalized

    _folder_of(study, storage)
    finalized(study, seeds=seeds, times=times)


@app.command()
def report(
    study: StudyName,
    to: Annotated[Path | None, typer.Option(help="Another file than report.html.")] = None,
    storage: Storage = None,
) -> None:
    """Write a study's report again, and trials.csv beside it."""
    from hrsearch.report import write_report
    from hrsearch.study import read_study

    folder = _folder_of(study, storage)
    path = write_report(read_study(folder), to or folder / "report.html")
    typer.echo(f"wrote {path} and {path.with_name('trials.csv')}")


@app.command()
def compare(
    studies: Annotated[list[str], typer.Argument(help="Two or more studies: names or folders.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Hold studies against each other: hypervolumes in common ranges, who beats whom, luck over seeds."""
    from hrsearch.compare import compared, json_of, lines_of
    from hrsearch.study import folder_of, read_study

    found = compared([read_study(folder_of(study)) for study in studies])
    typer.echo(json.dumps(json_of(found), indent=2) if as_json else "\n".join(lines_of(found)))


@app.command()
def watch(
    study: StudyName,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
) -> None:
    """Follow a running search from another terminal: where it stands, and its front. Ctrl-C ends the watching only."""
    from hrsearch.progress import watched
    from hrsearch.study import folder_of

    watched(folder_of(study), None if once else every)


@app.command()
def export(
    study: StudyName,
    pick: Annotated[str, typer.Option(help="knee, best, fastest, smallest, trial:17, or 'latency<=30ms'.")] = "knee",
    to: Annotated[Path, typer.Option(help="The folder to write.")] = Path("winner"),
    on: Annotated[str | None, typer.Option(help="Pick by what hrsearch measure found there.")] = None,
    storage: Storage = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="native (always), onnx, pt2, standalone, mmseg, timm; repeat it."),
    ] = None,
) -> None:
    """Write a winner to a folder: its architecture, weights, training recipe and numbers, and other formats of it.

    Every file is run and held against the network; one that computes something else: exit code 1.
    """
    from hrsearch.export import ExportFailed
    from hrsearch.export import export as write
    from hrsearch.study import read_study
    from hrsearch.targets import on_target
    from hrsearch.trust import to_pick_from

    record = read_study(_folder_of(study, storage))
    try:
        there = on_target(record, on) if on else record
        folder = write(to_pick_from(there, pick), pick, to, formats or ())
    except ExportFailed as error:
        typer.echo(f"hrsearch: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"wrote {folder}; train it with: hrsearch train {folder}")


@app.command()
def train(
    winner: Annotated[Path, typer.Argument(help="A folder that hrsearch export wrote.")],
    data: Annotated[str | None, typer.Option(help=DATA)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the schedule, instead of the recipe's.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="imagenet, ade20k, cityscapes, pascal_context, coco_pose, or a YAML file.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Weights to fine-tune, such as run/best.safetensors.")
    ] = None,
    image: Annotated[int | None, typer.Option(help="Side of the square training images, pixels.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe; repeat it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default what is there.")] = None,
) -> None:
    """Train an exported winner. The same command again resumes, or says that it is finished."""
    # Read when torch is loaded. Threads that wait spin otherwise, and where anything else wants the cores, training all
    # but stops: 60 steps took 21 s with this and more than 7 minutes without, beside another process on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hrsearch.train import settings_of
    from hrsearch.train import train as run_training

    asked = {"data": data, "steps": steps, "recipe": recipe, "start": start, "image": image, "device": device}
    result = run_training(winner, **asked, settings=settings_of(settings or []))  # type: ignore[arg-type]
    if os.environ.get("RANK", "0") == "0":
        typer.echo(result)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False) -> None:
    """Check the installation, the machine and the engines, and say what is missing for what. Exit code 1: broken."""
    from hrsearch.doctor import examined, line_of

    found = []
    for finding in examined():
        found.append(finding)
        if not as_json:
            typer.echo(line_of(finding))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    if any(finding.state == "broken" for finding in found):
        raise typer.Exit(1)


@app.command()
def schema(what: Annotated[str, typer.Argument(help="space (networks, too) or runner.")]) -> None:
    """Print the JSON Schema of a space or a runner, for an editor that completes and checks YAML."""
    from hrsearch.schema import schema_of

    if what not in ("space", "runner"):
        raise InputError(f"schema {what!r} does not exist; write space or runner")
    typer.echo(json.dumps(schema_of(what), indent=2))


def _folder_of(study: str, storage: str | None) -> Path:
    """The study's folder; with `storage`, one that points to the study there."""
    from hrsearch.storage import point_to
    from hrsearch.study import folder_of

    folder = folder_of(study)
    if storage:
        point_to(folder, storage)
    return folder


def image_of(text: str) -> tuple[int, int]:
    """`512` or `1024x512` (height x width) as numbers; else an InputError."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"--image {text!r} cannot be read; write 512 or 1024x512 (height x width)")
    return int(parts[0]), int(parts[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a person's mistake is one line and exit code 2, a full disk one line and exit code 1."""
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


def _told(error: Any) -> int:
    print(f"hrsearch: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
