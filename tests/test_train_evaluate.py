"""The test of the best weights on whole images, and what TensorBoard is given."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trees import masks_tree
from winners import ARCH, exported, table

from hrsearch.errors import InputError
from hrsearch.proxy.data import Dataset, load_dataset
from hrsearch.train import Recipe, evaluate, train
from hrsearch.train.distributed import Team
from hrsearch.train.evaluate import _places, blended, slid

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def local(images: Tensor) -> Tensor:
    """(B, 2, H, W) that says of each pixel what that pixel alone tells: windows and flips do not change it."""
    return torch.stack([images[:, 0].float(), 255 - images[:, 0].float()], dim=1) / 50


def test_windows_cover_an_image() -> None:
    assert _places(2048, 1024) == [0, 768, 1024]
    assert _places(1024, 1024) == [0]
    assert _places(512, 1024) == [0]
    assert _places(1025, 1024) == [0, 1]


def test_sliding_says_of_a_pixel_the_mean_of_its_windows() -> None:
    image = torch.randint(256, (1, 3, 40, 70), dtype=torch.uint8)
    assert torch.allclose(slid(local, image, 32), local(image))
    seen: list[tuple[int, ...]] = []

    def mean(part: Tensor) -> Tensor:
        """A window's own number everywhere: 0, 1, 2, ..."""
        seen.append(tuple(part.shape[2:]))
        return torch.full((1, 1, *part.shape[2:]), float(len(seen) - 1))

    found = slid(mean, image[..., :32, :56], 32)  # two windows, at 0 and 24
    assert seen == [(32, 32), (32, 32)]
    assert found[0, 0, 0, [0, 23, 24, 31, 32, 55]].tolist() == [0, 0, 0.5, 0.5, 1, 1]


@pytest.mark.parametrize("test", ["whole", "slide"])
def test_scales_and_flips_are_averaged(test: str) -> None:
    """What a pixel alone tells is told at one scale however often it is looked at; else shares are averaged."""
    image = torch.randint(256, (1, 3, 48, 64), dtype=torch.uint8)
    recipe = Recipe(image=32, test=test)  # type: ignore[arg-type]
    plain = blended(local, image, recipe, (48, 64))
    assert torch.allclose(plain, local(image).softmax(1), atol=1e-6)
    assert torch.allclose(blended(local, image, recipe.model_copy(update={"test_flip": True}), (48, 64)), plain)

    def lopsided(images: Tensor) -> Tensor:
        side = torch.linspace(-1, 1, images.shape[-1]).expand(len(images), 1, *images.shape[2:])
        return torch.cat([side, torch.zeros_like(side)], dim=1)

    flipped = blended(lopsided, image, Recipe(image=32, test="whole", test_flip=True), (48, 64))
    assert torch.allclose(flipped, flipped.flip(-1), atol=1e-6)
    sizes: list[tuple[int, ...]] = []

    def noted(images: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[2:]))
        return local(images)

    both = Recipe(image=32, test="whole", test_scales=(0.5, 1.0), test_flip=True)
    assert blended(noted, image, both, (96, 128)).shape == (1, 2, 96, 128)
    assert sizes == [(24, 32), (24, 32), (48, 64), (48, 64)]


class Stripes(nn.Module):
    """Knows the answer for masks of three upright stripes, whatever the image's size: logits at stride 4."""

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2] // 4, images.shape[3] // 4
        column = (torch.arange(width) + 0.5) * 3 // width
        return F.one_hot(column.long(), 3).T[None, :, None].expand(len(images), 3, height, width).float()


def own(tmp_path: Path) -> Dataset:
    path = masks_tree(tmp_path / "own", count=20, values=(0, 1, 2))
    return load_dataset(str(path), image=48, train_images=20, val_images=8, split="official")


def test_whole_images_are_judged_as_they_lie(tmp_path: Path) -> None:
    """Their middle squares hold only some of each stripe; the masks keep their own size."""
    data = own(tmp_path)
    assert data.val_files
    assert not set(data.val_files) & set(data.files)
    recipe = Recipe(image=48, test="whole")
    value = evaluate.tested(Stripes(), data, recipe, CPU, Team())
    assert value > 0.9
    wide = recipe.model_copy(update={"test": "slide"})
    assert evaluate.tested(Stripes(), data, wide, CPU, Team()) < value  # each square window has stripes of its own


def test_the_best_is_tested_once(tmp_path: Path) -> None:
    path = masks_tree(tmp_path / "own", count=20, values=(0, 1, 2))
    winner = exported(tmp_path / "winner", data=str(path), test="slide", test_scales=[0.5, 1.0], test_flip=True)
    result = train(winner, device="cpu")
    assert result.tested is not None
    assert str(result).endswith(f"; mIoU {result.tested:.3f} on whole images (test.json)")
    told = json.loads((winner / "run/test.json").read_text())
    assert told["miou"] == result.tested
    (winner / "run/test.json").write_text(json.dumps(told | {"miou": 0.5}))
    assert train(winner, device="cpu").tested == 0.5
    assert train(winner, settings={"test": "whole"}, device="cpu").tested != 0.5  # another test is done


def test_better_weights_are_tested_anew(tmp_path: Path) -> None:
    """A training that has stopped early, was tested and went on with more patience to better weights."""
    path = masks_tree(tmp_path / "own", count=20, values=(0, 1, 2))
    winner = exported(tmp_path / "winner", data=str(path), test="whole", every=1, patience=1)
    first = train(winner, device="cpu")
    (winner / "run/test.json").write_text((winner / "run/test.json").read_text().replace(str(first.tested), "0.5"))
    assert train(winner, device="cpu").tested == 0.5
    later = train(winner, settings={"patience": 0}, device="cpu")
    assert later.best_step > first.best_step
    assert later.tested != 0.5


def test_a_test_of_another_task_is_told(tmp_path: Path) -> None:
    arch = ARCH.replace("segment", "classify").replace("{kind: segformer, width: 8}", "classify")
    with pytest.raises(InputError, match="test: 'whole' is for task 'segment', not 'classify'"):
        train(exported(tmp_path / "winner", arch), settings={"test": "whole"}, device="cpu")


# TensorBoard.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_rows_are_shown_in_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    winner = exported(tmp_path / "winner", tensorboard=True)
    train(winner, device="cpu")
    events: Any = EventAccumulator(str(winner / "run/board"))
    events.Reload()
    assert events.Tags()["scalars"] == ["loss", "rate", "miou", "seconds"]
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    rows = table(winner)
    assert [step for step, _ in shown] == [int(row["step"]) for row in rows]
    assert [value for _, value in shown] == pytest.approx([float(row["loss"]) for row in rows])


def test_tensorboard_that_is_absent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", "tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"tensorboard: is not installed; pip install 'hrsearch\[tensorboard\]'"):
        train(exported(tmp_path / "winner", tensorboard=True), device="cpu")
