"""Commands about one network, or about all that are published."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from hrsearch.arch import Arch
from hrsearch.cli.options import Classes, Json, Task, app, examples, image_of, tell
from hrsearch.objective import Latency


@app.command(
    epilog=examples(
        "show hrvit_b1 --image 512 --task segment",
        "show winner/arch.yaml --ms --parts",
        "show hrvit_b1 --weights hrvit_b1.pth",
    )
)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A published network such as hrvit_b1, or a network's YAML file.")
    ],
    image: Annotated[
        str | None, typer.Option(help="Height x width in pixels (512, 1024x512); by default the network's own.")
    ] = None,
    classes: Classes = 1000,
    task: Task = None,
    weights: Annotated[Path | None, typer.Option(help="Released weights to try: .safetensors, .pth or .pt.")] = None,
    family: Annotated[str | None, typer.Option(help="Whose names these have; by default the network's.")] = None,
    ms: Annotated[bool, typer.Option("--ms", help="Measure it here: milliseconds of every row.")] = False,
    parts: Annotated[bool, typer.Option("--parts", help="A row for every part, too.")] = False,
    as_json: Json = False,
) -> None:
    """A network as a bill: per stage, branch and part its map, parameters, FLOPs and milliseconds."""
    from hrsearch.cost import cost
    from hrsearch.space import load_arch
    from hrsearch.table import by_place, certificate_of, json_of, rows_of, summary_of, text_of

    arch = load_arch(name, task)
    size = image_of(image) if image else arch.image or (224, 224)
    counted = cost(arch, size, classes)
    latency, spent = _measured(arch, size, classes) if ms else (None, None)
    rows = rows_of(arch, counted, size, spent, parts)
    loaded = None
    if weights is not None:
        from hrsearch.released.file import family_of, fit

        loaded = fit(arch, classes, weights, family or family_of(name))
    found = json_of(arch, rows, counted, size, classes) | ({"weights": asdict(loaded)} if loaded else {})
    bills = f"{text_of(rows, counted)}\n\n{text_of(by_place(arch, counted, spent), counted)}\n"
    lines = [bills, summary_of(counted, size, classes)]
    lines += [certificate_of(latency)] if latency else []
    lines += [str(loaded)] if loaded else []
    tell(lines, found | ({"latency": asdict(latency)} if latency else {}), as_json)


@app.command(epilog=examples("verify", "verify hrvit_b1 hrformer_t --json"))
def verify(
    networks: Annotated[
        list[str] | None,
        typer.Argument(metavar="NETWORK", help="Published networks or YAML files; by default all that ship."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Count the published networks again, beside their papers' figures. One that has changed: exit code 1."""
    from hrsearch.verify import json_of, summary_of, text_of, verified

    figures, silent = verified(networks or [])
    tell((text_of(figures), summary_of(figures, silent)), json_of(figures, silent), as_json)
    if any(figure.changed for figure in figures):
        raise typer.Exit(1)


def _measured(arch: Arch, size: tuple[int, int], classes: int) -> tuple[Latency, dict[str, float]]:
    """The network's latency here, and its milliseconds part by part."""
    from hrsearch.build import build
    from hrsearch.cost import bill_of, measure

    network = build(arch, classes)
    latency = measure(network, size)
    return latency, bill_of(network, size).scaled_to(latency.median_ms).by_path
