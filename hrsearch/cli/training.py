"""Commands about data and long training."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hrsearch.cli.options import Data, Json, Quiet, app, examples, tell
from hrsearch.errors import InputError, suggestion


@app.command(name="data", epilog=examples("data my_images/", "data ADEChallengeData2016/ --task segment"))
def look_at_data(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Your own images.")],
    task: Annotated[str | None, typer.Option(help="segment, classify or pose; by default what fits.")] = None,
    as_json: Json = False,
) -> None:
    """Say what a folder of your own data holds, and name all that is wrong with it. Anything wrong: exit code 1."""
    from hrsearch.proxy.data.survey import json_of, lines_of, survey
    from hrsearch.task import TASKS

    if task is not None and task not in TASKS:
        raise InputError(f"task {task!r} does not exist; {suggestion(task, TASKS)}")
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; give one of your own images")
    found = survey(path, task)
    tell(lines_of(found), json_of(found), as_json)
    if found.wrong:
        raise typer.Exit(1)


@app.command(
    epilog=examples(
        "train winner/ --data my_images/",
        "train winner/ --recipe ade20k --data ADEChallengeData2016/",
        "train winner/ --from run/best.safetensors --image 768",
    )
)
def train(
    winner: Annotated[Path, typer.Argument(metavar="WINNER", help="A folder that hrsearch export wrote.")],
    data: Data = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the schedule, instead of the recipe's.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="imagenet, imagenet_768, ade20k, cityscapes, pascal_context, coco_pose, or a YAML file."),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Weights to fine-tune, such as run/best.safetensors.")
    ] = None,
    image: Annotated[int | None, typer.Option(help="Side of the square training images, pixels.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe; repeat it.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default what is there.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train an exported winner. The same command again resumes, or says that it is finished."""
    # Read when torch is loaded. Threads that wait spin otherwise, and where anything else wants the cores, training all
    # but stops: 60 steps took 21 s with this and more than 7 minutes without, beside another process on two cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from hrsearch.progress import stopped
    from hrsearch.train import settings_of
    from hrsearch.train import train as run_training

    asked = {"data": data, "steps": steps, "recipe": recipe, "start": start, "image": image, "device": device}
    try:
        result = run_training(winner, **asked, settings=settings_of(settings or []))  # type: ignore[arg-type]
    except KeyboardInterrupt:
        if "RANK" in os.environ:  # torchrun's command goes on, and is not known here
            raise
        stopped("up to the last checkpoint")
    if os.environ.get("RANK", "0") == "0":
        tell([str(result)], asdict(result) | {"folder": str(result.folder)}, as_json, quiet)
