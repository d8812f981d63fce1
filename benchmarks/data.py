"""The share of its time that a training waits for data: a folder of 512 x 512 JPEG images and PNG masks, made here.

    OMP_WAIT_POLICY=passive python benchmarks/data.py
    python benchmarks/data.py --network hrvit_b1 --image 512 --batch 16 --device cuda --only train

For the proxy as the laptop runner has it, on squares mapped from the cache, and for hrsearch train, which decodes and
augments the files in other processes meanwhile (and sets that policy itself). The first step, in which those start, is
told apart.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrsearch.arch import Arch
from hrsearch.build import build
from hrsearch.proxy import proxy_data
from hrsearch.proxy.data import Dataset, Split, load_dataset
from hrsearch.proxy.feed import How, batches
from hrsearch.proxy.learning import Plan, learn, learner_of
from hrsearch.runner import load_runner
from hrsearch.space import load_arch, load_space
from hrsearch.train import SAMPLED, default_recipe, how_of

SIDE = 512
CLASSES = 8


@dataclass
class Waited:
    """Seconds in which batches were waited for, of all but the first step."""

    first: float = 0.0
    rest: float = 0.0

    def over(self, given: Iterator[Split]) -> Iterator[Split]:
        """The batches, each timed."""
        while True:
            start = time.perf_counter()
            batch = next(given, None)
            seconds = time.perf_counter() - start
            if batch is None:
                return
            if self.first == 0:
                self.first = seconds
            else:
                self.rest += seconds
            yield batch


def write_folder(path: Path, count: int) -> Path:
    """Images as large in bytes as photographs (a soft ground, grain, shapes with edges), and the shapes' masks."""
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (path / name).mkdir(parents=True)
    y, x = np.mgrid[:SIDE, :SIDE]
    for index in range(count):
        soft = Image.fromarray(random.integers(256, size=(12, 12, 3), dtype=np.uint8))
        pixels = np.asarray(soft.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.float32)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(12):
            middle, reach = random.integers(SIDE, size=2), random.integers(20, 120)
            inside = (x - middle[0]) ** 2 + (y - middle[1]) ** 2 < reach**2
            mask[inside] = label = random.integers(CLASSES)
            pixels[inside] = pixels[inside] * 0.3 + label * 24
        pixels += random.normal(0, 8, size=pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path / "images" / f"{index:05}.jpg", quality=90)
        Image.fromarray(mask).save(path / "masks" / f"{index:05}.png")
    return path


@cache
def smallest_draw() -> Arch:
    """The draw of the space hrvit with the fewest parameters, of twenty: the soonest done, the most often hungry."""
    drawn = [load_space("hrvit").sample(seed)[1] for seed in range(20)]
    return min(drawn, key=lambda arch: sum(weight.numel() for weight in build(arch, classes=CLASSES).parameters()))


def train(data: Dataset, plan: Plan, how: How, network: str, device: str) -> str:
    """Train, and say what share of the time was waiting."""
    arch = load_arch(network) if network != "draw" else smallest_draw()
    torch.manual_seed(0)
    learner = learner_of(build(arch, classes=len(data.classes)), data, plan, device)
    waited = Waited()
    begin = after_first = time.perf_counter()
    for step, batch in enumerate(waited.over(batches(data, plan, how, seed=0))):
        learn(learner, data, plan, step=step, seed=0, given=batch)
        if step == 0:
            after_first = time.perf_counter()
    end = time.perf_counter()
    per_step = (end - after_first) / (plan.steps - 1)
    return (
        f"waits {waited.rest / (end - after_first):.2%} of {end - after_first:.1f} s ({per_step:.3f} s a step of "
        f"{plan.batch}); the first step took {after_first - begin:.2f} s, {waited.first:.2f} of them waiting"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="images in the folder")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--network", default="draw", help="a published one; by default a small draw of the space hrvit")
    parser.add_argument("--image", type=int, help="for train: the crop in pixels, instead of the laptop runner's")
    parser.add_argument("--batch", type=int, help="for train: instead of the laptop runner's")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", choices=["proxy", "train"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HRSEARCH_CACHE"] = f"{folder}/cache"
        path = write_folder(Path(folder) / "own", options.count)
        proxy = load_runner("laptop").proxy.model_copy(update={"data": str(path), "steps": options.steps})
        if options.only != "train":
            for state in ("made", "mapped"):
                start = time.perf_counter()
                data = proxy_data(proxy, "segment")
                print(f"proxy: squares {state} in {time.perf_counter() - start:.3f} s ({options.count} images)")
            torch.set_num_threads(1)
            print(f"proxy: {train(data, proxy, How(), options.network, 'cpu')}", flush=True)
        if options.only != "proxy":
            torch.set_num_threads(os.cpu_count() or 1)
            told = {"image": options.image, "batch": options.batch, "precision": options.precision}
            changes = {key: value for key, value in told.items() if value} | {"steps": options.steps, "warmup": 0}
            recipe = default_recipe(proxy, str(path)).model_copy(update=changes)
            how = how_of(recipe, "segment", torch.device(options.device))
            sizes = {key: getattr(recipe, key) for key in ("image", "train_images", "val_images")}
            data = load_dataset(recipe.data, **sizes, split="official", decoded=SAMPLED)
            for one in (how, How(augments=True, from_files=True)):
                said = train(data, recipe, one, options.network, options.device)
                print(f"train, {recipe.image} px, {one.workers} processes decode: {said}", flush=True)


if __name__ == "__main__":
    main()
