"""Long training: what it writes, that a killed one ends as an uninterrupted one, and its mistakes."""

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from trees import masks_tree
from winners import ARCH, RECIPE, exported, require_same, table

from hrsearch.build import Network, build
from hrsearch.cli import main
from hrsearch.errors import InputError
from hrsearch.proxy.checkpoint import write_weights
from hrsearch.proxy.data import Dataset, Split, load_dataset
from hrsearch.proxy.feed import How
from hrsearch.runner import Proxy
from hrsearch.space import load_arch
from hrsearch.storage import locked
from hrsearch.train import Recipe, TrainResult, decoders, default_recipe, how_of, load_recipe, train
from hrsearch.train.start import begin_with
from hrsearch.train.steps import Trainer, learn


@pytest.fixture
def winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HRSEARCH_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    return exported(tmp_path / "winner")


def network_of(winner: Path, classes: int = 11) -> Network:
    torch.manual_seed(7)
    return build(load_arch(winner / "arch.yaml"), classes=classes)


def test_training_writes_its_run(winner: Path) -> None:
    result = train(winner, device="cpu")
    rows = table(winner)
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert result.steps == 12
    assert result.value == float(rows[-1]["miou"])
    assert result.best == max(float(row["miou"]) for row in rows)
    network_of(winner).load_state_dict(load_file(winner / "run/best.safetensors"))
    assert sorted(path.name for path in (winner / "run").iterdir()) == [
        ".train", "best.safetensors", "checkpoint.pt", "metrics.csv", "recipe.yaml", "trained.json",
    ]  # fmt: skip


def test_result_is_told_in_a_line() -> None:
    told = str(TrainResult(Path("winner/run"), 3000, metric="mIoU", value=0.5, best=0.6123, best_step=2500))
    assert told == (
        f"mIoU 0.500 after 3,000 steps; best 0.612 at step 2,500, weights in {Path('winner/run/best.safetensors')}"
    )


def test_finished_training_is_not_done_again(winner: Path) -> None:
    first = train(winner, device="cpu")
    written = (winner / "run/checkpoint.pt").stat().st_mtime_ns
    assert train(winner, device="cpu") == first
    assert (winner / "run/checkpoint.pt").stat().st_mtime_ns == written


def test_two_trainings_at_once_are_refused(winner: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a lock that a killed one does not leave behind for long; a fine-tuning beside it may run."""
    monkeypatch.setattr("hrsearch.train.PATIENCE_S", 0.5)
    (winner / "run").mkdir()
    with locked(winner / "run/.train"):
        with pytest.raises(InputError, match=r"winner/run: another training is at work on it; let it end or stop it"):
            train(winner, device="cpu")
        assert train(winner, start="scratch", steps=1, device="cpu").steps == 1
    assert train(winner, steps=1, device="cpu").steps == 1


def test_what_a_killed_training_leaves_is_waited_for(winner: Path) -> None:
    (winner / "run").mkdir()
    is_held = threading.Event()

    def hold() -> None:
        with locked(winner / "run/.train"):
            is_held.set()
            time.sleep(0.5)

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()
    assert train(winner, steps=1, device="cpu").steps == 1
    holder.join()


def test_killed_training_ends_as_an_uninterrupted_one(winner: Path, tmp_path: Path) -> None:
    """Past the first epoch, so that images are augmented, and with paths dropped: all that draws must be taken up."""
    whole = exported(tmp_path / "whole", steps=100, every=5, drop_path=0.2)
    (winner / "train.yaml").write_text((whole / "train.yaml").read_text())
    code = (
        "import sys, torch; torch.set_num_threads(1); from pathlib import Path; from hrsearch.train import train;"
        "train(Path(sys.argv[1]), device='cpu')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(winner)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 280
    while not (winner / "run/checkpoint.pt").exists():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    train(winner, device="cpu")
    train(whole, device="cpu")
    assert len(table(winner)) == 20
    require_same(winner, whole)


def test_ctrl_c_says_how_to_go_on(
    winner: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", str(winner), "--device", "cpu"]
    monkeypatch.setattr("hrsearch.train.learn", stopped)
    monkeypatch.setattr("sys.argv", ["hrsearch", *asked])
    with pytest.raises(SystemExit) as end:
        main(asked)
    assert end.value.code == 130
    assert capsys.readouterr().err.strip().splitlines() == [
        "stopped; nothing up to the last checkpoint is lost. The same command goes on:",
        f"  hrsearch train {winner} --device cpu",
    ]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_resumes_too(
    precision: str, winner: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by an exception between two checkpoints; the scaler, which fp16 has, counts all steps."""
    whole = exported(tmp_path / "whole", precision=precision)
    (winner / "train.yaml").write_text((whole / "train.yaml").read_text())
    with monkeypatch.context() as patch:
        patch.setattr("hrsearch.train.learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(winner, device="cpu")
    train(winner, device="cpu")
    train(whole, device="cpu")
    require_same(winner, whole)
    scalers = [torch.load(each / "run/checkpoint.pt")["scaler"] for each in (winner, whole)]
    assert scalers[0] == scalers[1]
    assert (scalers[0].get("_growth_tracker") == 12) is (precision == "fp16")  # none overflowed


def stopped(trainer: Trainer, data: Dataset, recipe: Recipe, *, step: int, given: Split) -> float:
    if step == 6:
        raise KeyboardInterrupt
    return learn(trainer, data, recipe, step=step, given=given)


@pytest.mark.parametrize("classes", [11, 5])
def test_weights_are_taken_up_where_they_fit(winner: Path, classes: int) -> None:
    """From a search with five classes all but the classifier, which is drawn anew."""
    found = network_of(winner, classes)
    write_weights(winner / "weights.safetensors", found)
    network = build(load_arch(winner / "arch.yaml"), classes=11)
    begin_with(network, winner / "weights.safetensors")
    same = [torch.equal(tensor, found.state_dict()[name]) for name, tensor in network.state_dict().items()]
    assert same.count(False) == (0 if classes == 11 else 2)
    train(winner, steps=1, device="cpu")
    scratch = train(exported(winner / "scratch", start="scratch"), steps=1, device="cpu")
    assert table(winner)[0]["loss"] != table(scratch.folder.parent)[0]["loss"]


def test_weights_of_another_network_are_refused(winner: Path) -> None:
    save_file({"stem.weight": torch.zeros(1)}, winner / "weights.safetensors")
    with pytest.raises(
        InputError, match=r"weights\.safetensors: weights of another network \(.* in one of them only\)"
    ):
        train(winner, device="cpu")


def test_another_recipe_does_not_resume(winner: Path) -> None:
    train(winner, device="cpu")
    with pytest.raises(InputError, match=r"another training \(steps: 12 is now 20\); .* or remove .*run to start anew"):
        train(winner, steps=20, device="cpu")


def test_a_second_stage_is_sent_to_the_first_ones_weights(winner: Path) -> None:
    """And what is said works; a second one of another kind can only begin anew."""
    train(winner, device="cpu")
    second: dict[str, Any] = {"image": 48, "steps": 2, "settings": {"warmup": 0}, "device": "cpu"}
    with pytest.raises(InputError, match=r"\(image: 32 is now 48\); --from (\S+) goes on from its best") as told:
        train(winner, **second)
    (start,) = re.findall(r"--from (\S+)", str(told.value))
    assert train(winner, start=start, **second).folder == winner / "run-48"
    with pytest.raises(InputError, match=r"\(steps: 2 is now 3\); remove \S*run-48 to start anew"):
        train(winner, start=start, **{**second, "steps": 3})


def test_another_network_does_not_resume(winner: Path) -> None:
    train(winner, device="cpu")
    (winner / "arch.yaml").write_text(ARCH.replace("width: 8", "width: 16"))
    with pytest.raises(InputError, match=r"another training \(arch: \w+ is now \w+\); remove .*run to start anew"):
        train(winner, device="cpu")


def test_torn_checkpoint_is_told(winner: Path) -> None:
    (winner / "run").mkdir()
    (winner / "run/checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"checkpoint\.pt: no checkpoint .*; remove"):
        train(winner, device="cpu")


def test_damaged_files_cost_no_weights(winner: Path) -> None:
    """A checkpoint that is none says that the best weights are there; what can be made again is."""
    first = train(winner, settings={"test": "whole"}, device="cpu", data=str(masks_tree(winner / "data")))
    (winner / "run/test.json").write_text("{")
    assert train(winner, settings={"test": "whole"}, device="cpu", data=str(winner / "data")).tested == first.tested
    for content in (1, {"step": 1}):
        torch.save(content, winner / "run/checkpoint.pt")
        with pytest.raises(InputError, match=r"checkpoint\.pt: another training .*--from run/best\.safetensors"):
            train(winner, device="cpu", data=str(winner / "data"))
    (winner / "run/checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(InputError, match=r"no checkpoint .*; --from run/best\.safetensors goes on"):
        train(winner, device="cpu", data=str(winner / "data"))


def test_an_image_that_breaks_while_training_is_one_line(winner: Path) -> None:
    """Read by other processes, whose errors torch tells with pages of where they were."""
    data = masks_tree(winner / "data", count=40)

    def break_all() -> None:
        while not (winner / "run/checkpoint.pt").exists():
            time.sleep(0.05)
        for image in (data / "images").iterdir():
            image.write_bytes(image.read_bytes()[:300])

    breaker = threading.Thread(target=break_all)
    breaker.start()
    with pytest.raises(InputError, match=r"^[^\n]*\.jpg: [^\n]*; mend it, and the same command goes on [^\n]*$"):
        train(winner, device="cpu", data=str(data), steps=5000)
    breaker.join()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"settings": {"epochs": float("inf")}}, "epochs: it should be a finite number"),
        ({"settings": {"seed": 10**30}}, "seed: it should be less than"),
        ({"settings": {"batch": None}}, "batch: it should be a valid integer, but got None"),
        ({"device": "meta"}, "device 'meta': cannot be used"),
    ],
)
def test_values_that_nothing_can_do_are_told(winner: Path, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(winner, **asked)


def test_loss_that_is_not_finite_is_told(winner: Path) -> None:
    network = network_of(winner)
    network.load_state_dict({name: tensor * torch.nan for name, tensor in network.state_dict().items()})
    write_weights(winner / "weights.safetensors", network)
    with pytest.raises(InputError, match=r"training failed: loss is nan at step 0; lower rate or image"):
        train(winner, device="cpu")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stpes: 3", r"train\.yaml:1: stpes: key 'stpes' does not exist; did you mean 'steps'\?"),
        ("image: 64\nsteps: 0", r"train\.yaml:2: steps: it should be greater than 0, but got 0"),
        ("precision: fp8", "but got 'fp8'"),
        ("3", "expected a mapping"),
    ],
)
def test_mistakes_in_a_recipe_say_where(winner: Path, text: str, words: str) -> None:
    (winner / "train.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        train(winner, device="cpu")


def test_folder_that_is_no_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent: holds no arch\.yaml; give a folder that hrsearch export wrote"):
        train(tmp_path / "absent")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "steps: it should be greater than 0, but got 0"),
        ({"data": "absent"}, "data 'absent'"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_mistakes_in_a_call_are_told(winner: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(winner, **({"device": "cpu"} | given))


def test_any_key_of_the_recipe_may_be_set(winner: Path) -> None:
    """Those that have an option of their own, too."""
    train(winner, settings={"steps": "4", "image": "40", "start": "scratch", "every": "2"}, device="cpu")
    written = yaml.safe_load((winner / "run/recipe.yaml").read_text())
    assert {key: written[key] for key in ("steps", "image", "start", "every")} == {
        "steps": 4, "image": 40, "start": "scratch", "every": 2,
    }  # fmt: skip
    with pytest.raises(InputError, match="steps"):
        train(winner, settings={"steps": "abc"}, device="cpu")
    with pytest.raises(InputError, match=r"seed: it should be greater than or equal to 0, but got '-1'"):
        train(winner, settings={"seed": "-1"}, device="cpu")


def test_the_weights_of_a_stage_may_be_named_from_anywhere(winner: Path) -> None:
    train(winner, steps=4, device="cpu")
    first = train(winner, steps=4, start="run/best.safetensors", image=40, device="cpu")
    assert train(winner, steps=4, start=str(winner / "run/best.safetensors"), image=40, device="cpu") == first


def test_call_overrides_the_recipe(winner: Path) -> None:
    assert train(winner, data="digits", steps=2, device="cpu").steps == 2


def test_default_recipe_is_the_proxy_made_long(tmp_path: Path) -> None:
    proxy = Proxy(image=96, batch=24, steps=100, precision="bf16")
    recipe = default_recipe(proxy, "own/data")
    assert (recipe.data, recipe.image, recipe.batch, recipe.precision) == ("own/data", 96, 24, "bf16")
    assert recipe.steps == 2000
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(tmp_path / "train.yaml") == recipe


# A person's own data.


@pytest.fixture
def own(winner: Path, tmp_path: Path) -> Path:
    """A folder of masks, and a recipe that names it."""
    path = masks_tree(tmp_path / "own", count=40, values=(0, 1, 2))
    (winner / "train.yaml").write_text(yaml.safe_dump(RECIPE | {"data": str(path)}))
    return path


def test_own_data_is_augmented_and_validated_on_the_official_split(
    winner: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search trains and validates on other images."""
    given: list[Split] = []
    datas: list[Dataset] = []

    def seen(trainer: Trainer, data: Dataset, recipe: Recipe, **how: Any) -> float:
        given.append(how["given"])
        datas.append(data)
        return learn(trainer, data, recipe, **how)

    monkeypatch.setattr("hrsearch.train.learn", seen)
    train(winner, device="cpu")
    official = load_dataset(str(own), image=32, train_images=48, val_images=8, split="official")
    assert datas[0].split == official.split
    assert torch.equal(datas[0].val.images, official.val.images)
    assert len(datas[0].files) == len(official.files)
    assert any((batch.labels == 255).any() for batch in given)  # scaled below 1: none of these masks holds it
    proxy = load_dataset(str(own), image=32, train_images=48, val_images=48)
    shown = {image.numpy().tobytes() for image in (*proxy.train.images, *proxy.val.images)}
    assert not any(image.numpy().tobytes() in shown for image in official.val.images)


def test_augmented_training_is_taken_up(
    winner: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = exported(tmp_path / "whole", data=str(own))
    with monkeypatch.context() as patch:
        patch.setattr("hrsearch.train.learn", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(winner, device="cpu")
    train(winner, device="cpu")
    train(whole, device="cpu")
    require_same(winner, whole)


def test_wrong_data_is_told_before_training(winner: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of files that are not among those decoded for the statistics, too."""
    monkeypatch.setattr("hrsearch.train.SAMPLED", 1)
    last = load_dataset(str(own), image=32, train_images=48, val_images=8, split="official").files[-1].image
    last.write_bytes(last.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"1 wrong item \(1 unreadable\): .*truncated"):
        train(winner, device="cpu")
    assert not (winner / "run/metrics.csv").exists()


def test_augmentation_of_another_task_is_told(winner: Path) -> None:
    (winner / "train.yaml").write_text(yaml.safe_dump(RECIPE | {"augment": "pose"}))
    with pytest.raises(InputError, match="augment: 'pose' is not for task 'segment'; give auto, none or segment"):
        train(winner, device="cpu")


def test_what_is_augmented_follows_from_the_data() -> None:
    cpu, recipe = torch.device("cpu"), Recipe()
    assert how_of(recipe, "segment", cpu) == How()
    own = recipe.model_copy(update={"data": "folder/of/mine"})
    assert how_of(own, "segment", cpu) == How(augments=True, from_files=True, workers=decoders("cpu"))
    assert not how_of(own.model_copy(update={"augment": "none"}), "segment", cpu).augments
    asked = how_of(recipe.model_copy(update={"augment": "segment"}), "segment", cpu)
    assert asked.augments
    assert not asked.from_files


def test_own_data_is_the_same_however_its_folder_is_called(
    winner: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And wherever it lies; other files in its place are other data."""
    monkeypatch.chdir(own.parent)
    first = train(winner, data=own.name, device="cpu")
    moved = own.rename(tmp_path / "moved")
    for name in (f"{moved}/", "moved"):
        assert train(winner, data=name, device="cpu") == first
    masks_tree(tmp_path / "others", values=(0, 1))
    with pytest.raises(InputError, match=r"another training \(split: "):
        train(winner, data="others", device="cpu")
    with pytest.raises(InputError, match=r"another training \(data: "):
        train(winner, data="digits", device="cpu")
