"""Recipes: the papers' by name and family, what a call sets, the schedules, the groups of parameters."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from winners import ARCH, exported, table

from hrsearch.cli import main
from hrsearch.document import shipped_folder
from hrsearch.errors import InputError
from hrsearch.nets.hrformer import RelativePosition
from hrsearch.proxy.augment import erased
from hrsearch.proxy.feed import How
from hrsearch.proxy.groups import Groups, groups_of
from hrsearch.proxy.learning import rate_factor
from hrsearch.runner import Proxy
from hrsearch.space import load_arch
from hrsearch.train import Recipe, default_recipe, how_of, load_recipe, settings_of, train
from hrsearch.train.recipe import ALL, FAMILIES, Shipped, family_of
from hrsearch.train.schedule import rate_at

SHIPPED = sorted(path.stem for path in shipped_folder("recipes").glob("*.yaml"))
NETWORKS = {"hrvit": "hrvit_b1", "hrformer": "hrformer_t", "hrnet": "hrnet_w18", "hirivit": "hirivit_s"}
NOWHERE = Path("nowhere/train.yaml")


def of(name: str, family: str = "hrvit", **settings: Any) -> Recipe:
    return load_recipe(NOWHERE, named=name, arch=load_arch(NETWORKS[family]), settings=settings)


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("family", FAMILIES)
def test_shipped_recipes_are_complete(name: str, family: str) -> None:
    """Whatever else stands in the folder, a paper's recipe says all that it is about."""
    assert family_of(load_arch(NETWORKS[family])) == family
    recipe = of(name, family)
    said = yaml.safe_load((shipped_folder("recipes") / f"{name}.yaml").read_text())
    assert {"image", "batch", "optimizer", "rate", "schedule", "decay", "undecayed", "drop_path", "ema"} <= said.keys()
    assert said.keys() & {"steps", "epochs"}
    assert Shipped.model_validate(said).families.keys() <= set(FAMILIES)
    assert recipe.optimizer == "adamw"
    assert recipe.balance == 0


# What the papers say and what their authors released, recipe by recipe and family by family: every field of it.
SEGMENTS = {"optimizer": "adamw", "schedule": "poly", "floor": 0, "decay": 0.01, "warmup": 1500, "clip": 1000, "ema": 0}
FROM_SCRATCH = {
    "optimizer": "adamw", "batch": 1024, "rate": 1e-3, "decay": 0.05, "undecayed": ("vectors",), "schedule": "cosine",
    "augment": "classify", "smoothing": 0.1, "erasing": 0.25, "start": "scratch",
}  # fmt: skip
HRVIT: dict[str, Any] = {
    **SEGMENTS, "steps": 160_000, "rate": 6e-5, "power": 1, "head_rate": 10, "undecayed": ("layer_norms",), "ohem": 0,
}  # fmt: skip
HRFORMER: dict[str, Any] = {
    **SEGMENTS, "rate": 1e-4, "power": 0.9, "head_rate": 1, "undecayed": ("vectors", "positions"), "drop_path": 0.2,
    "sync_bn": True,
}  # fmt: skip
HARD = {"ohem": 0.9, "ohem_keep": 100_000}
SAID: list[tuple[str, str, dict[str, Any]]] = [
    ("ade20k", "hrvit", {**HRVIT, "image": 512, "batch": 16, "drop_path": 0.1, "test": "whole"}),
    ("ade20k", "hrformer", {**HRFORMER, **HARD, "image": 520, "batch": 8, "steps": 150_000}),
    ("ade20k", "hirivit", {**SEGMENTS, "image": 512, "batch": 16, "steps": 160_000, "rate": 6e-5, "ohem": 0}),
    ("cityscapes", "hrvit", {**HRVIT, "image": 1024, "batch": 8, "drop_path": 0.15, "test": "slide"}),
    ("cityscapes", "hrformer", {**HRFORMER, **HARD, "image": 1024, "batch": 8, "steps": 80_000}),
    ("pascal_context", "hrformer", {**HRFORMER, "ohem": 0, "image": 520, "batch": 16, "steps": 60_000}),
    ("imagenet", "hrvit", {
        **FROM_SCRATCH, "image": 224, "epochs": 310, "warmup_epochs": 20, "floor": 0.01, "clip": 1, "drop_path": 0.1,
        "ema": 0,
    }),
    ("imagenet", "hrformer", {
        **FROM_SCRATCH, "image": 224, "epochs": 300, "warmup_epochs": 20, "floor": 0.01, "clip": 5, "drop_path": 0,
        "cooldown": 0,
    }),
    ("imagenet", "hirivit", {
        **FROM_SCRATCH, "image": 448, "epochs": 300, "warmup_epochs": 5, "floor": 0, "clip": 1000, "drop_path": 0.15,
        "ema": 0.9998, "distill": 0.5, "temperature": 1, "distill_as": "share", "cooldown": 0,
    }),
    ("imagenet_768", "hirivit", {"image": 768, "epochs": 30, "optimizer": "adamw", "schedule": "cosine"}),
    ("coco_pose", "hrformer", {
        "image": 256, "batch": 256, "epochs": 210, "warmup": 500, "optimizer": "adamw", "rate": 5e-4, "decay": 0.01,
        "undecayed": ("positions",), "schedule": "step", "clip": 1000, "precision": "fp16", "rotation": 40,
        "rescale": 0.5, "drop_path": 0.1,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("name", "family", "said"), SAID, ids=lambda each: each if isinstance(each, str) else "")
def test_recipes_are_those_of_the_papers(name: str, family: str, said: dict[str, Any]) -> None:
    recipe = of(name, family).model_dump()
    assert {key: recipe[key] for key in said} == said


def test_shares_of_a_training_are_whole_epochs() -> None:
    """HRViT's last ten at the floor; HRFormer's poses learn a tenth as fast after 170 and 200."""
    assert of("imagenet").cooldown * 310 == pytest.approx(10, abs=0.02)
    assert [share * 210 for share in of("coco_pose", "hrformer").milestones] == pytest.approx([170, 200], abs=0.02)


def test_people_are_turned_and_resized_as_a_recipe_says() -> None:
    cpu, pose = torch.device("cpu"), of("coco_pose", "hrformer", augment="pose")
    assert (how_of(pose, "pose", cpu).rotation, how_of(pose, "pose", cpu).rescale) == (40, 0.5)
    assert (How().rotation, How().rescale) == (Recipe().rotation, Recipe().rescale) == (45, 0.35)  # HRNet's


def test_what_a_paper_leaves_open_stays_the_folders(tmp_path: Path) -> None:
    winner = exported(tmp_path / "winner", data="my/images", seed=3)
    recipe = load_recipe(winner / "train.yaml", named="ade20k", settings={"batch": 4})
    assert (recipe.data, recipe.seed, recipe.batch, recipe.steps) == ("my/images", 3, 4, 160_000)


def test_a_recipe_for_another_task_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"imagenet\.yaml: is for task 'classify', but this network's is 'segment'"):
        train(exported(tmp_path / "winner"), recipe="imagenet", device="cpu")
    with pytest.raises(InputError, match=r"no shipped recipes entry of that name; did you mean 'ade20k'"):
        train(tmp_path / "winner", recipe="ade2k", device="cpu")


def test_a_papers_recipe_asks_for_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of following it on digits; one's own may be for these."""
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    winner = exported(tmp_path / "winner")
    with pytest.raises(InputError, match=r"'ade20k': is for real data, but train\.yaml has 'digits'; give --data, "):
        train(winner, recipe="ade20k", image=32, steps=1, settings={"batch": 2, "train_images": 8}, device="cpu")
    (tmp_path / "mine.yaml").write_text("steps: 1\nwarmup: 0\n")
    assert train(winner, recipe=str(tmp_path / "mine.yaml"), device="cpu").steps == 1


def test_a_mistake_in_what_is_said_of_a_family_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("task: segment\nfamilies:\n  hrvit:\n    rate: 0\n")
    with pytest.raises(InputError, match=r"mine\.yaml:4: rate: it should be greater than 0, but got 0"):
        of(str(path))
    path.write_text("rate: 0.5\nstesp: 4\n")
    with pytest.raises(InputError, match=r"mine\.yaml:2: stesp: key 'stesp' does not exist; did you mean 'steps'"):
        of(str(path))
    path.write_text("rate: 0.5\n")
    assert of(str(path)).rate == 0.5


def test_epochs_become_steps() -> None:
    recipe = Recipe(epochs=3, warmup_epochs=0.5, batch=10).timed(105)
    assert (recipe.steps, recipe.warmup, recipe.epochs) == (32, 5, None)
    short = of("imagenet", steps=620)
    assert (short.epochs, short.steps, short.warmup) == (None, 620, 40)  # 20 of 310 epochs
    assert of("ade20k", steps=1600).warmup == 15
    assert of("ade20k", steps=1600, warmup=7).warmup == 7
    assert [of("coco_pose", steps=steps).warmup for steps in (20_000, 1_000)] == [500, 100]
    assert of("imagenet", steps=3100).warmup == 200  # 20 of 310 epochs


def test_fewer_epochs_have_a_shorter_warm_up() -> None:
    """In proportion, as fewer steps have, however either is counted."""
    few = of("imagenet", epochs=31)
    assert (few.epochs, few.warmup_epochs) == (31, 2)  # 20 of 310
    assert of("imagenet", epochs=620).warmup_epochs == 20
    assert of("coco_pose", epochs=21).timed(149_813).warmup == 50  # 500 steps for 210
    long = of("ade20k", epochs=16).timed(20_210)  # 1500 of 160,000 steps
    assert long.warmup == pytest.approx(long.steps * 1500 / 160_000, abs=1)
    assert of("imagenet", epochs=31, warmup_epochs=5).warmup_epochs == 5
    assert of("imagenet", epochs=31, warmup=7).timed(1_280_000).warmup == 7
    with pytest.raises(
        InputError, match=r"warmup: 500 steps of warm-up are not over within the training's 40; 4 would"
    ):
        of("imagenet", epochs=4, warmup_epochs=50, batch=10).timed(100)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bacth": 3}, "bacth: a recipe has no such key; did you mean 'batch'"),
        ({"ema": 1}, "ema: it should be less than 1, but got 1"),
        ({"schedule": "step"}, "step needs milestones, such as"),
        ({"head_rate": 10}, "head_rate needs optimizer: adamw"),
        ({"compile": True, "checkpointing": True}, "compile and checkpointing do not go together"),
    ],
)
def test_mistakes_in_settings_are_told(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(exported(tmp_path / "winner"), settings=settings, device="cpu")


def test_what_is_set_in_steps_goes_before_epochs(tmp_path: Path) -> None:
    given = of("imagenet", warmup=500).timed(1_280_000)
    assert (given.warmup, given.steps) == (500, of("imagenet").timed(1_280_000).steps)
    folder, path = exported(tmp_path / "winner", epochs=300, warmup_epochs=20), tmp_path / "mine.yaml"
    path.write_text("steps: 70\nwarmup: 5\n")
    mine = load_recipe(folder / "train.yaml", named=str(path)).timed(1_280_000)
    assert (mine.steps, mine.warmup) == (70, 5)
    path.write_text("steps: 70\n")
    assert of(str(path), warmup_epochs=0.5, batch=10).timed(100).warmup == 5
    assert of(str(path), warmup_epochs=0.5, batch=10, steps=20).timed(100).warmup == 5


def test_settings_are_read_as_yaml() -> None:
    found = settings_of(["batch=8", "ema=0.99", "test_scales=[0.5, 1]", "data=my images", "checkpointing=true"])
    assert found == {"batch": 8, "ema": 0.99, "test_scales": [0.5, 1], "data": "my images", "checkpointing": True}
    assert settings_of(["epochs=null"]) == {"epochs": None}
    for text in ("batch", "=3", "batch=", "batch=[3"):
        with pytest.raises(InputError, match="write KEY=VALUE"):
            settings_of([text])


def test_all_of_a_folder_is_trained_on(tmp_path: Path) -> None:
    """The limits of a folder's train.yaml are those of what is made here, but for a person's own."""
    path = exported(tmp_path / "winner") / "train.yaml"
    made, own = load_recipe(path), load_recipe(path, settings={"data": "my_images"})
    assert (made.train_images, made.val_images) == (48, 8)
    assert (own.train_images, own.val_images) == (ALL, ALL)
    few = load_recipe(path, settings={"data": "my_images", "train_images": 10})
    assert (few.train_images, few.val_images) == (10, ALL)
    assert default_recipe(Proxy(), "my_images").train_images == ALL > default_recipe(Proxy(), "digits").train_images
    paper = load_recipe(path, named="ade20k", settings={"data": "my_images"})
    assert paper.val_images == 2000


# Schedules.


def rates(**changes: Any) -> list[float]:
    recipe = Recipe(rate=1.0, steps=100, **{"warmup": 0, **changes})
    return [rate_at(recipe, step) for step in range(100)]


def test_cosine_and_stable_are_the_proxys() -> None:
    for schedule in ("cosine", "stable"):
        recipe = Recipe(rate=2.0, steps=50, warmup=5, schedule=schedule)
        assert [rate_at(recipe, step) for step in range(50)] == pytest.approx(
            [2 * rate_factor(recipe, step) for step in range(50)]
        )


def test_poly_step_floor_and_cooldown() -> None:
    assert rates(schedule="poly")[::25] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert rates(schedule="poly", power=0.9)[50] == pytest.approx(0.5**0.9)
    stepped = rates(schedule="step", milestones=(0.8, 0.95))
    assert (stepped[79], stepped[80], stepped[95]) == pytest.approx((1, 0.1, 0.01))
    warm = rates(schedule="step", milestones=(0.8,), warmup=9)
    assert warm[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    cooled = rates(floor=0.01, cooldown=0.1)
    assert cooled[0] == 1
    assert cooled[90:] == pytest.approx([0.01] * 10)
    assert cooled[89] > 0.01


# Groups of parameters.


class Parts(nn.Module):
    """One parameter of every kind that recipes tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 4, 1)
        self.batch_norm = nn.BatchNorm2d(4)
        self.layer_norm = nn.LayerNorm(4)
        self.position = RelativePosition(3, 2)
        self.head = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("kinds", "undecayed"),
    [
        (("vectors",), {"mix.bias", "batch_norm.weight", "batch_norm.bias", "layer_norm.weight", "layer_norm.bias",
                        "head.bias"}),
        (("layer_norms",), {"layer_norm.weight", "layer_norm.bias"}),
        (("positions",), {"position.table"}),
        ((), set()),
    ],
)  # fmt: skip
def test_what_is_not_decayed(kinds: tuple[str, ...], undecayed: set[str]) -> None:
    network = Parts()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = groups_of(network, dict(network.named_parameters()), 0.5, Groups(kinds, head_rate=10.0))
    rates = {names[id(each)]: (group["weight_decay"], group["factor"]) for group in groups for each in group["params"]}
    assert rates.keys() == set(names.values())
    assert {name for name, (decay, _) in rates.items() if decay == 0} == undecayed
    assert {name for name, (_, factor) in rates.items() if factor == 10} == {"head.weight", "head.bias"}


def test_erasing_makes_noise_of_a_part() -> None:

    image = torch.full((3, 64, 64), 200, dtype=torch.uint8)
    shares = []
    for seed in range(30):
        found = erased(image, np.random.default_rng(seed))
        assert torch.equal(found, erased(image, np.random.default_rng(seed)))
        changed = (found != image).any(0)
        rows, columns = changed.any(1).nonzero(), changed.any(0).nonzero()
        assert changed.sum() > 0.9 * (rows[-1] - rows[0]) * (columns[-1] - columns[0])  # one rectangle
        shares.append(float(changed.float().mean()))
    assert 0.01 < min(shares) < max(shares) < 0.36
    assert image.min() == 200


def test_the_recipe_that_was_followed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A paper's at the size of a test: what the call set, what the paper says, in one file that trains the same."""
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    winner = exported(tmp_path / "winner", ARCH)
    small = [
        "data=digits",
        "train_images=16",
        "val_images=4",
        "batch=4",
        "test=none",
        "every=2",
        "augment=none",
        "warmup=0",
    ]
    given = [text for each in small for text in ("--set", each)]
    with pytest.raises(SystemExit) as end:
        main(["train", str(winner), "--recipe", "ade20k", "--image", "32", "--steps", "2", "--device", "cpu", *given])
    assert end.value.code == 0
    kept = load_recipe(winner / "run/recipe.yaml")
    assert (kept.image, kept.steps, kept.head_rate, kept.data) == (32, 2, 10.0, "digits")
    again = exported(tmp_path / "again", ARCH)
    (again / "train.yaml").write_text((winner / "run/recipe.yaml").read_text())
    train(again, device="cpu")
    assert table(winner) == table(again)
