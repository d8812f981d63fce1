"""Peak memory: by hand, against tensors that really hold it, against a process, and as a limit of a search."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from inside import inside
from torch import Tensor, nn

from hrsearch.build import build
from hrsearch.candidate import Candidate, Judgement
from hrsearch.cost import peak_memory
from hrsearch.cost.memory import Alive
from hrsearch.errors import CandidateFailed, InputError
from hrsearch.evaluate import Evaluate
from hrsearch.objective import parse_limit, readable
from hrsearch.runner import Measure, Proxy, Runner, Search
from hrsearch.space import load_space
from hrsearch.study import read_study

FLOAT = 4  # bytes
SIDE, BATCH = 8, 5
PIXELS = BATCH * SIDE * SIDE
IMAGES = 3 * PIXELS


class Chain(nn.Module):
    """Three convolutions of one pixel each, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (
            nn.Conv2d(before, after, 1, bias=False) for before, after in ((3, 20), (20, 30), (30, 4))
        )

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.third(self.second(self.first(image)))
        return out


class Residual(Chain):
    """The same with a sum that keeps the first map alive."""

    def forward(self, image: Tensor) -> Tensor:
        kept = self.first(image)
        out: Tensor = self.third(self.second(kept))
        return torch.cat([kept, out], 1)


WEIGHTS = 3 * 20 + 20 * 30 + 30 * 4


def test_a_chain_by_hand() -> None:
    """While a layer works there are its input and its output: most in the second, 20 and 30 channels."""
    memory = peak_memory(Chain(), (SIDE, SIDE), BATCH)
    assert memory.bytes == FLOAT * (WEIGHTS + IMAGES + (20 + 30) * PIXELS)
    assert (memory.of, memory.device, memory.image, memory.batch) == ("forward pass", "cpu", (SIDE, SIDE), BATCH)
    assert memory.how.startswith("counted")


def test_a_residual_by_hand() -> None:
    """When the third layer works, the first's map is there as well."""
    wanted = max((20 + 30 + 4) * PIXELS, (20 + 4 + 24) * PIXELS)
    assert peak_memory(Residual(), (SIDE, SIDE), BATCH).bytes == FLOAT * (WEIGHTS + IMAGES + wanted)


def test_a_training_step_by_hand() -> None:
    """At the end of the third layer's backward pass: all three maps, the second's gradient, the third layer's own.

    AdamW's two moments lie there all the time, and a count of its steps for each of the three weights. A few single
    numbers are the losses.
    """
    maps = (20 + 30 + 4 + 30) * PIXELS
    least = FLOAT * (3 * WEIGHTS + 3 + IMAGES + maps + 30 * 4)
    assert least <= peak_memory(Chain(), (SIDE, SIDE), BATCH, training=True).bytes <= least + 4 * FLOAT


def test_tensors_that_hold_memory_take_the_same() -> None:
    """A real pass, and a real second step of AdamW, seen by the same counter."""
    network = build(load_space("hrvit").sample(42)[1], classes=3)
    image = torch.zeros(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    held = [*network.parameters(), *network.buffers(), image]
    with torch.inference_mode(), Alive(held) as alive:
        network.eval()(image)
    own = sum(tensor.nbytes for tensor in held)
    assert peak_memory(network, (64, 96), 2).bytes == own + alive.peak
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    for _ in range(2):
        optimizer.zero_grad()
        moments = [each for state in optimizer.state.values() for each in state.values()]
        with Alive([*held, *moments]) as alive:
            prediction = network(image)
            prediction.sum().backward()
            optimizer.step()
    wanted = own + sum(each.nbytes for each in moments) + alive.peak
    assert peak_memory(network, (64, 96), 2, training=True).bytes == pytest.approx(wanted, abs=64)


PROCESS = """
import torch
from torch import Tensor, nn
from hrsearch.cost import peak_memory

class Wide(nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        kept = image.repeat(1, 8, 1, 1)
        return (kept.relu() + kept).sigmoid()  # three maps at once

def resident(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what)) * 1024

network, image = Wide(), torch.zeros(1, 3, 1024, 1024)
network(image[:, :, :8, :8])
counted = peak_memory(network, (1024, 1024)).bytes - image.nbytes
before = resident("VmRSS")
with torch.inference_mode():
    network(image)
print(counted, resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
def test_a_process_needs_what_was_counted() -> None:
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True)
    counted, resident = map(int, done.stdout.split())
    assert counted == 3 * 8 * 3 * 1024 * 1024 * FLOAT
    assert resident == pytest.approx(counted, rel=0.1)


def test_the_network_stays_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before, random = {key: value.clone() for key, value in network.state_dict().items()}, torch.get_rng_state()
    peak_memory(network, (9, 9), training=True)
    peak_memory(network, (9, 9))
    assert network.training
    assert network[1].training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_training_reads_every_prediction() -> None:
    class Two(Chain):
        def predictions(self, image: Tensor) -> list[Tensor]:
            return [self.third(self.second(self.first(image))), self.first(image)]

    one, two = (peak_memory(kind(), (64, 64), training=True).bytes for kind in (Chain, Two))
    assert two > one + 64 * 64 * 20 * FLOAT
    assert peak_memory(Two(), (64, 64)) == peak_memory(Chain(), (64, 64))


def test_a_step_that_no_machine_holds_is_counted() -> None:
    assert peak_memory(Chain(), (100_000, 100_000), 100, training=True).bytes > 1e14


def test_a_batch_that_is_too_small_to_train_is_told() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))
    with pytest.raises(CandidateFailed, match=r"no training step with batch 1 \(Expected more than 1 value.*measure"):
        peak_memory(network, (8, 8), training=True)
    assert peak_memory(network, (8, 8), 2, training=True).bytes > 0


def test_what_depends_on_values_fails_the_candidate() -> None:
    class Picky(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image if float(image.sum()) > 0 else -image

    with pytest.raises(CandidateFailed, match="its memory cannot be counted: what it does depends on values"):
        peak_memory(Picky(), (8, 8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_takes_what_the_tensors_take() -> None:
    measured, counted = (peak_memory(Chain(), (512, 512), 8, device=device).bytes for device in ("cuda", "cpu"))
    assert measured == pytest.approx(counted, rel=0.2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_none_is_asked() -> None:
    with pytest.raises(InputError, match="memory on 'cuda' needs an NVIDIA GPU"):
        peak_memory(Chain(), device="cuda")


@pytest.mark.parametrize(
    ("text", "shown", "bound"),
    [
        ("memory=200M", "memory<=200MB", 200e6),
        ("training_memory<=2GB", "training_memory<=2GB", 2e9),
        ("memory<=512kB", "memory<=512kB", 512e3),
    ],
)
def test_limits_are_read_and_shown_in_bytes(text: str, shown: str, bound: float) -> None:
    limit = parse_limit(text)
    assert (str(limit), limit.bound) == (shown, bound)
    assert parse_limit(str(limit)) == limit
    assert readable(183.6e6, "B") == "184MB"


def judged(folder: Path, search: Search, known: bool = False) -> Judgement:
    runner = Runner(
        proxy=Proxy(image=32, batch=4, steps=1, warmup=0, train_images=8, val_images=4),
        measure=Measure(image=(64, 64), batch=2, seconds=0.1),
        search=search,
    )
    arch = load_space("hrvit").sample(42)[1]
    return Evaluate(runner, reference_ms=1.0)(Candidate(0, arch.digest(), arch, 0, folder, known=known))


@pytest.mark.parametrize("name", ["memory", "training_memory"])
def test_a_limit_refuses_before_anything_is_timed_or_trained(name: str, tmp_path: Path) -> None:
    attributes = judged(tmp_path, Search(limits=(f"{name}<=1M",))).attributes
    assert attributes["outcome"] == "refused"
    assert attributes["reason"] == f"{name}<=1MB does not hold"
    assert set(attributes) == {name, "outcome", "reason"}
    assert attributes[name]["bytes"] > 1e6


def test_it_is_counted_only_where_it_is_asked_for_and_holds_no_published_network_back(tmp_path: Path) -> None:
    assert not {"memory", "training_memory"} & set(judged(tmp_path, Search()).attributes)
    asked = judged(tmp_path, Search(objectives=("score", "memory"), limits=("memory<=1M",)), known=True).attributes
    assert asked["outcome"] == "trained"
    assert asked["memory"]["of"] == "forward pass"


SPACE = """
task: segment
knobs: {width: [8, 16, 512]}
net:
  stages: [{link: conv_stem, channels: $width, stride: 4}]
  head: {kind: segformer, width: 16}
"""
RUNNER = """
proxy: {image: 32, batch: 8, steps: 2, warmup: 1, train_images: 64, val_images: 16}
measure: {image: [64, 64], seconds: 0.1}
engine: {kind: inline}
"""


def test_a_search_by_memory_goes_the_whole_road(tmp_path: Path) -> None:
    """From the command line to the front, the table, the report, a winner and another device."""
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "runner.yaml").write_text(RUNNER)
    how = ["--objective", "score", "--objective", "memory", "--limit", "training_memory=4M"]
    ran = inside(tmp_path, "run", "space.yaml", "--runner", "runner.yaml", "--budget", "2", *how)
    assert ran.returncode == 0, ran.stderr
    assert "MB of memory" in ran.stdout or "kB of memory" in ran.stdout
    folder = tmp_path / "studies" / "space"
    record = read_study(folder)
    states = {trial.knobs["width"]: trial.state for trial in record.trials}
    assert states == {8: "trained", 16: "trained", 512: "refused"}
    table = record.table().set_index("knob.width")
    assert table.memory_bytes[8] < table.memory_bytes[16] < table.training_memory_bytes[16] < 4e6
    page = (folder / "report.html").read_text()
    assert '"name": "training_memory"' in page or '"training_memory"' in page  # an axis to choose
    assert "Memory is the peak of one batch" in page
    assert inside(tmp_path, "export", "space", "--pick", "memory<=1G").returncode == 0
    assert "peak of a forward pass, 64 x 64, batch 1, cpu" in (tmp_path / "winner" / "README.md").read_text()
    assert inside(tmp_path, "measure", "space", "--image", "128", "--device", "cpu").returncode == 0
    here = record.trained[0]
    there = read_study(folder).attributes[f"target:eager-128x128:{here.number}"]
    for name in ("memory", "training_memory"):
        assert there[name]["image"] == [128, 128]
        assert there[name]["bytes"] > 2 * here.attributes[name]["bytes"]
