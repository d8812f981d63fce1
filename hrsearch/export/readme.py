"""The README of an exported network: what it is, how its weights came about, what to do with it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from hrsearch.export.winner import KEPT, Winner
from hrsearch.objective import OBJECTIVES, readable
from hrsearch.pick import value_of
from hrsearch.study import Record, Trial
from hrsearch.task import TASKS

README = """\
# {name} of study {study}

{summary}

| | |
|---|---|
{table}

FLOPs are multiply-accumulates: one multiply-accumulate is one. Softmax, norms and activations are not counted.
{promise}

## The files

| file | holds |
|---|---|
| `arch.yaml` | the network in hrsearch's grammar, every option written out (digest `{digest}`) |
| `weights.safetensors` | {weights} |
| `train.yaml` | the recipe of `hrsearch train`; change it as you like |
| `numbers.json` | all that the search knows of the network, and the protocol, versions and machine |

{images}

{usages}"""
PROMISE = "The score is that of a short training; it ranks networks and is no promise of what a full training reaches."
TRAINED = "The score is the best over the validation images of `{data}` in {steps:,} steps of `hrsearch train`."
IMAGES = """\
Images are RGB, scaled to 0..1, then each channel minus its mean, divided by its deviation, as those that the weights
were trained on: mean {mean}, std {std}."""
UNSAID = "Images are RGB, each channel shifted and scaled to mean 0 and deviation 1 over the training images."
NATIVE = """\
Train it, in this folder:

```sh
{train}
```

Use it in Python, in this folder:

```python
{code}
```
"""
CHECKED = """
## Checked

`python check.py` runs every file that computes and holds it against what the network did at its export, on random
images, the same everywhere. At the export it said:

```
{lines}
```
"""
MISSING = f"missing: none of this trial lay beside the study ({KEPT})"


def readme_of(winner: Winner, usages: Mapping[str, str], checked: Sequence[str]) -> str:
    """The README's text: how to use each format, and what the check said."""
    record, trial = winner.record, winner.trial
    proxy = record.attributes.get("runner", {}).get("proxy", {})
    text = README.format(
        name=_cell(trial.name),
        study=_cell(record.name),
        summary=_summary(record, trial),
        table=_table(trial),
        digest=trial.attributes.get("digest"),
        promise=TRAINED.format(**trial.attributes["score"]) if winner.trained else PROMISE,
        weights=_trained_weights(trial) if winner.trained else _weights(trial, proxy) if winner.weights else MISSING,
        images=_images(winner),
        usages="\n".join(f"## {name}\n\n{usage}" for name, usage in usages.items()),
    )
    return text + (CHECKED.format(lines="\n".join(checked)) if checked else "")


def _images(winner: Winner) -> str:
    known = winner.normalisation
    if known is None:
        return UNSAID
    return IMAGES.format(**{name: [round(value, 6) for value in values] for name, values in known.items()})


def _trained_weights(trial: Trial) -> str:
    return f"those of the best validation while it was trained on `{_cell(trial.attributes['score']['data'])}`"


def native_usage(winner: Winner) -> str:
    """How to train the network and to use it with hrsearch."""
    from hrsearch.proxy.data import located  # loads torch

    of = winner.trial.attributes["score"] if winner.trained else winner.record.attributes.get("runner", {}).get("proxy")
    data = located((of or {}).get("data", "digits"))
    return NATIVE.format(train=_train(winner.record, data), code=_code(winner))


def figures_of(trial: Trial) -> str:
    """The trial's figures in one line: score 0.412, FLOPs 2.01G, latency 20.5ms, params 6.2M."""
    known = ((name, value_of(trial, name)) for name in OBJECTIVES)
    return ", ".join(
        f"{name} {readable(value, OBJECTIVES[name].unit)}{_head(trial.attributes.get(name))}"
        for name, value in known
        if value is not None
    )


def _train(record: Record, data: str) -> str:
    own = TASKS[record.task].folder
    return f"hrsearch train . --data {shlex.quote(data)}\nhrsearch train . --data PATH      # {own}"


def _summary(record: Record, trial: Trial) -> str:
    space = record.attributes.get("space_path") or "a space"
    came = (
        "a published network, judged beside the candidates of"
        if trial.attributes.get("known")
        else "found by searching"
    )
    return f"A network for the task `{record.task}`: {came} `{_cell(space)}`."


def _table(trial: Trial) -> str:
    rows = {
        "score": _score(trial.attributes.get("score") or {}),
        "latency": _latency(trial.attributes.get("latency") or {}),
        "FLOPs": _count(trial.attributes.get("flops")),
        "parameters": _count(trial.attributes.get("params")),
        "memory": _memory(trial.attributes.get("memory") or {}),
        "memory in training": _memory(trial.attributes.get("training_memory") or {}),
    }
    return "\n".join(f"| {name} | {_cell(text)} |" for name, text in rows.items() if text)


def _score(score: Mapping[str, Any]) -> str:
    if not score:
        return ""
    known = f"{score['value']:.4f} {score['metric']}, {score['steps']:,} steps"
    if "seeds" not in score:
        return f"{known}, seed {score['seed']}"
    return f"{known}, mean of {score['seeds']} seeds (95 % interval {score['low']:.4f} to {score['high']:.4f})"


def _memory(memory: Mapping[str, Any]) -> str:
    if not memory:
        return ""
    height, width = memory["image"]
    what = f"peak of a {memory['of']}, {height} x {width}, batch {memory['batch']}, {memory['device']}"
    return f"{readable(memory['bytes'], 'B')} ({what}; {memory['how']}){_head(memory)}"


def _latency(latency: Mapping[str, Any]) -> str:
    if not latency:
        return ""
    height, width = latency["image"]
    interval = f"95 % interval {latency['low_ms']:.4g} to {latency['high_ms']:.4g}"
    where = f"{latency['engine']} on {latency['device']}, threads: {latency['threads']}{_head(latency)}"
    return f"{latency['median_ms']:.4g} ms ({interval}), {height} x {width}, batch {latency['batch']}, {where}"


def _head(measured: Any) -> str:
    """Of a figure that was measured before the network was trained for another number of classes: with which."""
    is_other = isinstance(measured, Mapping) and "classes" in measured
    return f" (measured with a head of {measured['classes']} classes)" if is_other else ""


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _weights(trial: Trial, proxy: Mapping[str, Any]) -> str:
    score = trial.attributes.get("score") or {}
    steps = score.get("steps", proxy.get("steps"))
    side = proxy.get("image")
    if "seeds" in score:
        best = f"its weights of the best of {score['seeds']} seeds of `hrsearch finalize`"
        return f"{best}: {steps:,} steps on {proxy.get('data')} at {side} x {side}"
    return f"its weights after the search's own training: {steps:,} steps on {proxy.get('data')} at {side} x {side}"


def _code(winner: Winner) -> str:
    height, width = winner.image
    lines = [
        "import torch",
        "from safetensors.torch import load_file",
        "",
        "import hrsearch",
        "",
        f'network = hrsearch.build(hrsearch.load_arch("arch.yaml"), classes={winner.classes})',
        'network.load_state_dict(load_file("weights.safetensors"))',
        "network.eval()",
        "with torch.inference_mode():",
        f"    prediction = network(torch.zeros(1, 3, {height}, {width}))",
    ]
    return "\n".join(line for line in lines if winner.weights or "load_file" not in line)


def _cell(text: str) -> str:
    """Text that cannot break out of a table's cell or a line."""
    return " ".join(text.split()).replace("|", "\\|")
