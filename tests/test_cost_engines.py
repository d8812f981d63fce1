"""Engines agree on what they run, say what they lack, and a program of the user's is taken at its word."""

import importlib.util
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hrsearch.build import build
from hrsearch.cost import measure
from hrsearch.cost.command import command_of, milliseconds
from hrsearch.cost.latency import device_of, engine_on
from hrsearch.cost.onnx import onnx_of
from hrsearch.cost.timer import Timing, interval
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.registry import ENGINES
from hrsearch.space import load_space

PRINTS = """
import sys
from pathlib import Path
assert Path(sys.argv[1]).read_bytes()[:1] == b"\\x08"  # an ONNX file begins with its version
print("warming up for", sys.argv[2:])
print(12.5)
print("11.5 ms")
print("  12.0")
print("13 runs left")
"""


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()).eval()


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "bench.py"
    path.write_text(PRINTS)
    return path


@pytest.mark.parametrize(
    "engine", [pytest.param(name, marks=pytest.mark.long) if name == "compiled" else name for name in sorted(ENGINES)]
)
def test_every_engine_runs_the_network_or_says_what_it_needs(engine: str) -> None:
    network, example = small(), torch.randn(2, 3, 9, 11)
    if device_of(engine) == "cuda" and not torch.cuda.is_available():
        with pytest.raises(InputError, match="needs an NVIDIA GPU"):
            ENGINES[engine](network, example)
        return
    got = ENGINES[engine](network, example)()
    on_cpu = got.float().cpu() if isinstance(got, Tensor) else got
    wanted = network(example).detach().numpy()
    coarse = device_of(engine) == "cuda"  # half the precision, or TF32
    np.testing.assert_allclose(np.asarray(on_cpu).reshape(wanted.shape), wanted, atol=5e-2 if coarse else 1e-5)


def test_a_gpu_has_an_engine_for_each_precision_recorded_and_not() -> None:
    on_gpu = {engine for engine in ENGINES if device_of(engine) == "cuda"}
    precisions = {"cuda", "cuda-fp16", "cuda-bf16"}
    assert on_gpu == precisions | {f"{name}-graph" for name in precisions}


@pytest.mark.parametrize(
    ("engine", "device", "chosen"),
    [
        ("eager", None, "eager"),
        ("eager", "cpu", "eager"),
        ("eager", "cuda", "cuda"),
        ("cuda-fp16-graph", "cuda", "cuda-fp16-graph"),
        ("onnx", "cpu", "onnx"),
        ("command: bench {model}", None, "command: bench {model}"),
    ],
)
def test_an_engine_on_a_device(engine: str, device: str | None, chosen: str) -> None:
    assert engine_on(engine, device) == chosen


@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("onnx", "cuda", "engine 'onnx' does not run on cuda; there choose from cuda, cuda-bf16"),
        ("cuda-graph", "cpu", "engine 'cuda-graph' does not run on cpu; there choose from compiled, eager, onnx"),
        ("command: bench {model}", "cpu", "runs where its program says; leave --device out"),
        ("eager", "tpu", "device 'tpu' does not exist; choose from cpu, cuda"),
    ],
)
def test_a_device_that_contradicts_the_engine_is_told(engine: str, device: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine_on(engine, device)


def test_an_onnx_model_is_the_network_with_its_norms_folded(tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    network = build(load_space("hrvit").sample(0)[1], classes=3).eval()
    image = torch.randn(1, 3, 64, 96)
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    session = onnxruntime.InferenceSession(onnx_of(network, image), options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"image": image.numpy()})
    np.testing.assert_allclose(got, network(image).detach().numpy(), atol=1e-4)
    graph = onnx.load(tmp_path / "folded.onnx").graph
    made_by = {output: node.op_type for node in graph.node for output in node.output}
    norms = [node for node in graph.node if node.op_type == "BatchNormalization"]
    assert "Conv" not in {made_by.get(node.input[0]) for node in norms}


def test_what_onnx_does_not_know_fails_the_candidate() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = torch.special.airy_ai(x)
            return out

    with pytest.raises(CandidateFailed, match="no export to ONNX"):
        onnx_of(Odd(), torch.zeros(1, 3, 4, 4))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match="engine 'onnx' needs onnxruntime; pip install onnx onnxruntime onnxscript"):
        ENGINES["onnx"](small(), torch.zeros(1, 3, 8, 8))


def test_a_certificate_says_how_it_was_measured() -> None:
    latency = measure(small(), (64, 64), seconds=0.3)
    assert latency.warm_up >= 3
    assert 1 <= latency.tries <= 3
    assert latency.steady == (not latency.trouble)
    assert latency.versions["torch"].startswith(torch.__version__.split("+")[0])
    assert latency.cpu_ms is not None
    assert latency.cpu_ms > 0
    assert latency.load is not None


def test_trouble_is_told() -> None:
    steady = Timing((1.0,) * 9, (1.0,), (1.0,), (1.0,), 4, True)
    assert steady.trouble == ""
    assert "after 4 runs of warm-up" in Timing((1.0,) * 9, (1.0,), (1.0,), (1.0,), 4, False).trouble
    wide = Timing((1.0, 1.2) * 5, (1.0,), (1.0,), (1.0,), 4, True)
    assert wide.trouble == "the interval is 18% of the median wide"
    assert steady.joined_with(wide).ratios == steady.ratios + wide.ratios


def test_an_interval_shrinks_with_samples() -> None:
    samples = torch.randn(400, generator=torch.Generator().manual_seed(0)).tolist()
    few, many = interval(samples[:20]), interval(samples)
    assert many[1] - many[0] < (few[1] - few[0]) / 2
    assert interval([2.0]) == (2.0, 2.0)


def test_a_program_times_the_model(program: Path) -> None:
    engine = f"command: {sys.executable} {program} {{model}} {{height}} {{width}} {{batch}} {{threads}}"
    latency = measure(small(), (64, 96), engine, batch=2, threads=1)
    assert (latency.median_ms, latency.low_ms, latency.high_ms) == (12.0, 11.5, 12.5)
    assert (latency.runs, latency.tries, latency.steady) == (9, 3, True)
    assert "warming up for ['64', '96', '2', '1']" in latency.output


def test_the_program_of_the_readme_works(tmp_path: Path) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(# bench\.py.*?)```", readme, re.DOTALL)
    (tmp_path / "bench.py").write_text(code)
    engine = f"command: {sys.executable} {tmp_path}/bench.py {{model}} {{height}} {{width}}"
    latency = measure(small(), (64, 96), engine)
    assert latency.runs == 10 * latency.tries
    assert latency.median_ms > 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('done')", "printed no milliseconds, one positive number a line"),
        ("print(-3)", "printed no milliseconds"),
        ("import sys; sys.exit('no device')", "ended with 1: no device"),
        ("import time; time.sleep(60)", "took longer than 1 s"),
    ],
)
def test_a_program_that_does_not_work_fails_the_candidate(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "bench.py").write_text(code)
    engine = f"command: {sys.executable} {tmp_path}/bench.py {{model}}"
    with pytest.raises(CandidateFailed, match=message):
        milliseconds(engine, small(), torch.zeros(1, 3, 8, 8), 1, timeout_s=1.0)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("command:", "no command; write for example"),
        ("command: run {modle}", r"cannot be read \('modle'\); places are model, height, width, batch, threads"),
        ("command: run 'x", "cannot be read"),
    ],
)
def test_a_command_that_cannot_be_read_is_told(engine: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        command_of(engine, Path("model.onnx"), torch.zeros(1, 3, 8, 8), 1)


def test_a_missing_program_is_told() -> None:
    with pytest.raises(InputError, match="no-such-bench: no such program"):
        measure(small(), (8, 8), "command: no-such-bench {model}")


def test_unsteady_calls_are_made_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = tmp_path / "bench.py"
    program.write_text(
        f"from pathlib import Path\nplace = Path({str(count)!r})\n"
        "n = int(place.read_text()) if place.exists() else 0\nplace.write_text(str(n + 1))\n"
        "print(100 if n == 0 else 10)\n"
    )
    latency = measure(small(), (8, 8), f"command: {sys.executable} {program}")
    assert (latency.tries, latency.steady, latency.median_ms) == (4, True, 10.0)


def test_onnx_is_installed_for_the_tests() -> None:
    assert importlib.util.find_spec("onnxruntime")


PAGES_MEET_AGAIN = """
import resource, sys, torch
from hrsearch.cost.machine import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
for turn in range(20):
    if turn == 5:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [torch.empty(6 << 18).fill_(1.0) for _ in range(4)]
    del maps
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 15)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_what_is_freed_is_not_fetched_from_the_system_again() -> None:
    """Or a latency would depend on what the process ran before: pages that are new at every run take time."""
    # By itself glibc decides by what was freed before, hence not always alike; here it starts by giving maps back.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    faults = {}
    for how in ("kept", "as it comes"):
        command = [sys.executable, "-c", PAGES_MEET_AGAIN, how]
        faults[how] = int(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
    assert faults["kept"] < 100 < 1000 < faults["as it comes"]
