"""Engine `command`: a program of the user's that takes an ONNX file and prints milliseconds.

For what Python cannot time: a phone over adb, a board over ssh, a vendor's own tool. The engine's name is the command,
`command: adb-bench.sh {model}`, with these places in braces filled in: model (the ONNX file), height, width, batch,
threads. Every line of its output that is a number, with or without `ms`, is one timed run; it is called until three
medians agree. Its output stands in the latency's certificate.
"""

import re
import shlex
import statistics
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import nn

from hrsearch.cost.onnx import onnx_of
from hrsearch.errors import CandidateFailed, InputError

PREFIX = "command:"
TIMEOUT_S = 300.0  # of one call
CALLS = 3  # at least; at most three times as many
AGREE = 0.05  # the medians of the last calls differ by less than this share
KEPT = 2000  # characters of the output
NUMBER = re.compile(r"^\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?:ms)?\s*$", re.MULTILINE)


def is_command(engine: str) -> bool:
    """Whether the engine is a program of the user's."""
    return engine.startswith(PREFIX)


def milliseconds(
    engine: str, network: nn.Module, example: torch.Tensor, threads: int, timeout_s: float = TIMEOUT_S
) -> tuple[list[list[float]], str]:
    """The runs of every call of the command, in milliseconds, and the last output.

    A command that cannot be read is an InputError; one that fails, is silent or takes too long is a CandidateFailed.
    """
    calls: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.onnx"
        model.write_bytes(onnx_of(network, example))
        command = command_of(engine, model, example, threads)
        while len(calls) < CALLS or (len(calls) < 3 * CALLS and not agree(calls[-CALLS:])):
            runs, output = _called(command, timeout_s)
            calls.append(runs)
    return calls, output[-KEPT:]


def command_of(engine: str, model: Path, example: torch.Tensor, threads: int) -> list[str]:
    """The words of the command, its places filled in; no shell reads them."""
    batch, _, height, width = example.shape
    places = {"model": model, "height": height, "width": width, "batch": batch, "threads": threads}
    try:
        words = [word.format(**places) for word in shlex.split(engine.removeprefix(PREFIX))]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"engine {engine!r}: cannot be read ({error}); places are {', '.join(places)}") from None
    if not words:
        raise InputError(f"engine {engine!r}: no command; write for example 'command: ./bench.sh {{model}}'")
    return words


def _called(command: list[str], timeout_s: float) -> tuple[list[float], str]:
    name = command[0]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise InputError(f"engine 'command': {name}: no such program") from None
    except OSError as error:
        raise InputError(f"engine 'command': {name}: cannot be run ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise CandidateFailed(f"the command {name} took longer than {timeout_s:.0f} s") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise CandidateFailed(f"the command {name} ended with {done.returncode}: {said[-1] if said else 'silently'}")
    runs = [float(number) for number in NUMBER.findall(done.stdout)]
    if not runs or min(runs) <= 0:
        raise CandidateFailed(f"the command {name} printed no milliseconds, one positive number a line")
    return runs, done.stdout


def agree(calls: list[list[float]]) -> bool:
    """Whether the medians of these calls differ by less than the share that counts as steady."""
    medians = [statistics.median(runs) for runs in calls]
    return max(medians) - min(medians) <= AGREE * min(medians)
