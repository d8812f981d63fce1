"""Commands that search a space, or look into one before or while it is searched."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hrsearch.cli.options import (
    STORAGE,
    Classes,
    Data,
    Json,
    Limits,
    Quiet,
    RunnerFile,
    SpaceFile,
    Storage,
    StudyName,
    Task,
    app,
    budget_of,
    examples,
    folder_at,
    image_of,
    tell,
)
from hrsearch.errors import InputError

if TYPE_CHECKING:  # loads torch
    from hrsearch.arch import Arch
    from hrsearch.runner import Runner
    from hrsearch.space import Setting, Space

TRIES = 100  # draws for a network that can be built


@app.command(
    epilog=examples(
        "run hrvit --budget 200",
        "run spaces/hrvit.yaml --hours 8 --limit latency=80ms --limit params=2M",
        "run hrvit --name mine --data my_images/ --runner gpu",
    )
)
def run(
    space: SpaceFile,
    budget: Annotated[
        int | None, typer.Option(help="Candidates in total, over all sessions; 200 unless hours are given.")
    ] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of searching in total, over all sessions.")] = None,
    runner: RunnerFile = None,
    name: Annotated[str | None, typer.Option(help="The study's name; by default the space's.")] = None,
    storage: Annotated[str | None, typer.Option(help=STORAGE, envvar="HRSEARCH_STORAGE")] = None,
    task: Task = None,
    data: Data = None,
    objective: Annotated[
        list[str] | None, typer.Option(help="score, flops, latency, params, memory, training_memory; repeat it.")
    ] = None,
    limit: Limits = None,
    warm_start: Annotated[
        list[str] | None,
        typer.Option(help="A study judged in the same way: what it trained is taken over and counts; repeat it."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a space. The same command again resumes the study, or says that it is finished."""
    from hrsearch import api
    from hrsearch.progress import searched
    from hrsearch.space import load_space
    from hrsearch.study import folder_of

    loaded = load_space(space, task)
    how = _judge(runner, loaded, quiet)
    asked = api.Asked(
        loaded,
        api.with_changes(how, data=data, objectives=objective or (), limits=limit or ()),
        folder_of(name or loaded.name),
        budget_of(budget, hours),
        hours,
        storage,
        tuple(folder_of(one) for one in warm_start or ()),
    )
    tell(*searched(asked), as_json, quiet)


def _judge(asked: str | None, space: "Space", quiet: bool) -> "Runner":
    """The runner that was asked for, else the default, which is told where it is not every space's."""
    from hrsearch import api
    from hrsearch.runner import load_runner

    chosen = asked or api.default_runner(space)
    if isinstance(chosen, Path) and not quiet:
        print(f"judged as {space.path} asks for, by {chosen.stem}; --runner takes another", file=sys.stderr)
    return load_runner(chosen)


@app.command(epilog=examples("plan hrvit --hours 8", "plan spaces/hrvit.yaml --budget 200 --runner smoke"))
def plan(
    space: SpaceFile,
    budget: Annotated[int | None, typer.Option(help="Candidates; 200 unless hours are given.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours that the search may take.")] = None,
    runner: RunnerFile = None,
    task: Task = None,
    data: Data = None,
    limit: Limits = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Time a small, a median and a large candidate here, published networks too; say what fits or when it ends."""
    from hrsearch import api
    from hrsearch.progress import planned
    from hrsearch.space import load_space

    loaded = load_space(space, task)  # first: its plug-ins may bring what the runner names
    how = api.with_changes(_judge(runner, loaded, quiet), data=data, limits=limit or ())
    tell(*planned(loaded, how, budget_of(budget, hours), hours), as_json, quiet)


@app.command(epilog=examples("check hrvit", "check my_space.yaml -n 200 --image 1024x512"))
def check(
    space: SpaceFile,
    draws: Annotated[int, typer.Option("-n", min=1, help="How many settings to draw.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    image: Annotated[
        str, typer.Option(help="Pixels (512, 1024x512) for networks without a size of their own.")
    ] = "512",
    classes: Classes = 11,
    task: Task = None,
    as_json: Json = False,
) -> None:
    """Draw settings at random and say what the space holds: networks, refusals, costs."""
    from hrsearch.cost import cost
    from hrsearch.space import load_space
    from hrsearch.survey import json_of, lines_of, survey

    size = image_of(image)
    outcome = survey(load_space(space, task), lambda arch: cost(arch, arch.image or size, classes), draws, seed)
    tell(lines_of(outcome, size), json_of(outcome), as_json)


@app.command(epilog=examples("sample hrvit -n 3 --seed 0", "sample hrvit --task pose --json"))
def sample(
    space: SpaceFile,
    count: Annotated[int, typer.Option("-n", min=1, help="How many networks.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    task: Task = None,
    as_json: Json = False,
) -> None:
    """Print random networks of a space, each as a YAML that show, known: and export understand."""
    from hrsearch.grammar import yaml_of
    from hrsearch.space import load_space

    loaded = load_space(space, task)
    drawn = [_buildable(loaded, f"{seed}-{index}") for index in range(count)]
    plugins = [str(path) for path in loaded.plugins]
    knobs = [" ".join(f"{name}={value}" for name, value in setting.items()) for setting, _ in drawn]
    texts = (
        f"# {arch.digest()}: {told}\n{yaml_of(arch, loaded.task, plugins=plugins).rstrip()}"
        for told, (_, arch) in zip(knobs, drawn, strict=True)
    )
    tell(
        ["\n---\n".join(texts)],
        [{"digest": arch.digest(), "setting": setting, "arch": arch.to_dict()} for setting, arch in drawn],
        as_json,
    )


def _buildable(space: "Space", seed: str) -> tuple["Setting", "Arch"]:
    """A random network of the space that can be built."""
    from hrsearch.cost import cost

    refusal = ""
    for attempt in range(TRIES):
        setting, arch = space.sample(f"{seed}-{attempt}" if attempt else seed)
        try:
            cost(arch, arch.image or (512, 512), classes=2)
        except InputError as error:
            refusal = str(error)
        else:
            return setting, arch
    raise InputError(f"none of {TRIES} networks drawn can be built, the last one: {refusal}")


@app.command(epilog=examples("watch hrvit", "watch reports/hrvit-laptop --once --json"))
def watch(
    study: StudyName,
    every: Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds between two looks.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    storage: Storage = None,
    as_json: Json = False,
) -> None:
    """Follow a running search from another terminal: where it stands, and its front. Ctrl-C ends the watching only."""
    from hrsearch.progress import json_of, standing, watched
    from hrsearch.study import read_study

    folder = folder_at(study, storage)
    if once:
        record = read_study(folder)
        tell(standing(record), json_of(record), as_json)
    elif as_json:
        raise InputError("--json looks once; add --once")
    else:
        watched(folder, every)
