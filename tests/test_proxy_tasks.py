"""Each task's loss and metric against a formula of their own; its networks learn, its auxiliary outputs too."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.arch import Map
from hrsearch.build import Network, build
from hrsearch.errors import InputError
from hrsearch.proxy import train_proxy
from hrsearch.proxy.data import Dataset, Split
from hrsearch.proxy.data.dataset import dataset_of
from hrsearch.proxy.learning import (
    AUXILIARY,
    augmented,
    batch_at,
    learn,
    learner_of,
    normalised,
    optimizers_of,
    rate_factor,
)
from hrsearch.proxy.tasks import (
    LEARNING,
    balanced,
    classify_loss,
    classify_tally,
    gaussians,
    keypoints_of,
    pose_loss,
    pose_tally,
    segment_loss,
)
from hrsearch.registry import HEADS
from hrsearch.runner import Proxy
from hrsearch.space import Space
from hrsearch.task import TASKS

QUICK = Proxy(image=16, batch=16, steps=40, warmup=5, rate=1e-2, optimizer="adamw", balance=0.5)
SPACE = """
task: segment
net:
  blocks: {plain: {kind: basic}}
  stages:
    - {link: conv_stem, channels: 16, stride: 4, depth: 1, block: plain}
    - {link: hrnet, channels: [16, 16], depth: 1, block: plain}
"""


def blobs(task: str, count: int = 96) -> Dataset:
    """Noisy images of 16 pixels, each with one bright square in the colour of its class, where a class has its own."""
    torch.manual_seed(1)
    images = torch.randint(60, (count, 3, 16, 16), dtype=torch.uint8)
    classes, corners = torch.randint(3, (count,)), torch.randint(11, (count, 2))
    masks = torch.full((count, 16, 16), 3, dtype=torch.uint8)
    for image, mask, each, (down, across) in zip(images, masks, classes.tolist(), corners.tolist(), strict=True):
        image[each, down : down + 6, across : across + 6] = 250
        mask[down : down + 6, across : across + 6] = each
    points = torch.zeros(count, 3, 3)
    points[torch.arange(count), classes] = torch.cat([corners.flip(1) + 3.0, torch.ones(count, 1)], dim=1)
    labels = {"segment": masks, "classify": classes, "pose": points}[task]
    names = ("red", "green", "blue", *(["none"] if task == "segment" else []))
    return dataset_of(Split(images, labels), Split(images, labels), names, mirrors=True, task=task)


def network_of(data: Dataset, head: str = "") -> Network:
    text = SPACE.replace("task: segment", f"task: {data.task}") + (f"  head: {head}\n" if head else "")
    torch.manual_seed(0)
    return build(Space.parse(text).sample(0)[1], classes=len(data.classes))


def test_every_task_can_be_learnt() -> None:
    assert LEARNING.keys() == TASKS.keys()
    assert [learning.metric for learning in LEARNING.values()] == ["mIoU", "top-1", "PCK@0.1"]


@pytest.mark.parametrize(("task", "chance"), [("segment", 0.3), ("classify", 0.33), ("pose", 0.05)])
def test_a_tiny_network_learns_its_task(task: str, chance: float) -> None:
    torch.set_num_threads(1)
    data = blobs(task)
    score = train_proxy(network_of(data), data, QUICK, seed=0)
    assert score.metric == LEARNING[task].metric
    assert score.value > 0.5 + chance / 2


@pytest.mark.parametrize(("task", "head"), [("segment", "classify"), ("classify", "fcn"), ("pose", "classify")])
def test_a_head_for_another_task_is_told(task: str, head: str) -> None:
    data = blobs(task)
    words = f"task '{task}' needs a head that predicts .*; leave the head out for '{TASKS[task].head}'"
    with pytest.raises(InputError, match=words):
        train_proxy(network_of(data, head), data, QUICK, seed=0)


def test_predictions_of_other_classes_are_told() -> None:
    data = blobs("pose")
    network = network_of(replace(data, classes=("one",)))
    with pytest.raises(
        InputError, match=r"predicts \(images, 3, height, width\), but this network's gives \(16, 1, 4, 4"
    ):
        train_proxy(network, data, QUICK, seed=0)


def test_segmentation_trains_as_before_there_were_tasks() -> None:
    """Step by step as it was written then."""
    data, few = blobs("segment"), QUICK.model_copy(update={"steps": 8})
    score = train_proxy(network_of(data, "segformer"), data, few, seed=3)
    network = network_of(data, "segformer")
    optimizers = optimizers_of(network, few)
    counts = torch.bincount(data.train.labels.flatten().long(), minlength=4).float()
    share = counts / counts.sum()
    weights = share.clamp(min=1e-4) ** -few.balance
    weights = weights / (weights * share).sum()
    losses = []
    for step in range(few.steps):
        torch.manual_seed(3 * 1_000_003 + step)
        network.train()
        batch = batch_at(data, few.batch, step=step, seed=3)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = few.rate * rate_factor(few, step)
        logits = network(normalised(batch.images, data))
        known = F.one_hot(batch.labels.long().clamp(max=4), 5)[..., :4].permute(0, 3, 1, 2).float()
        shares = F.adaptive_avg_pool2d(known, (4, 4)) * weights[:, None, None]
        loss = -(shares * logits.log_softmax(dim=1)).sum() / shares.sum()
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), few.clip)
        for optimizer in optimizers:
            optimizer.step()
    assert score.losses == tuple((step, round(loss, 5)) for step, loss in enumerate(losses, 1))


def test_classification_is_weighted_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 2]), torch.tensor([0.5, 1.0, 2.0])
    batch = Split(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), labels)
    likely = [
        math.exp(row[label]) / sum(map(math.exp, row)) for row, label in zip(logits.tolist(), labels, strict=True)
    ]
    each = [float(weights[label]) for label in labels]
    expected = -sum(w * math.log(p) for w, p in zip(each, likely, strict=True)) / sum(each)
    assert float(classify_loss(logits, batch, weights)) == pytest.approx(expected, rel=1e-5)


def test_top_1_counts_images() -> None:
    batch = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [0, 1, 2], [1, 0, 0]])
    assert classify_tally(logits, batch).tolist() == [3, 4]
    assert LEARNING["classify"].value(torch.tensor([3, 4])) == 0.75


def test_class_255_is_a_class_like_any_other() -> None:
    weights = balanced(torch.tensor([255, 255, 0]), 256, 1.0)
    assert float(weights[255]) == pytest.approx(float(weights[0]) / 2)


def points(*each: tuple[float, float, float], side: int = 32) -> Split:
    """One image with these keypoints."""
    return Split(torch.zeros(1, 3, side, side, dtype=torch.uint8), torch.tensor([each]))


def test_targets_are_gaussians_around_the_keypoint() -> None:
    target = gaussians(points((10.0, 22.0, 1.0)), 8, 8)[0, 0]  # cells of 4 pixels: 2.5 and 5.5 of them
    for row in range(8):
        for column in range(8):
            square = (column + 0.5 - 2.5) ** 2 + (row + 0.5 - 5.5) ** 2
            assert float(target[row, column]) == pytest.approx(math.exp(-square / 2), rel=1e-5)
    wide = gaussians(points((128.0, 128.0, 1.0), side=256), 64, 64)[0, 0]  # HRNet's: a deviation of 2 cells
    assert float(wide[32, 31]) == pytest.approx(math.exp(-0.5 / 8))


def test_loss_of_heatmaps_is_a_share_of_the_targets() -> None:
    batch = points((10.0, 22.0, 1.0), (4.0, 4.0, 0.0))
    target = gaussians(batch, 8, 8)
    ones = torch.ones(2)
    assert float(pose_loss(torch.zeros(1, 2, 8, 8), batch, ones)) == pytest.approx(1.0)
    assert float(pose_loss(target, batch, ones)) == 0
    other = target.clone()
    other[:, 1] += 9.0  # the second keypoint is not there
    other[0, 0, 0, 0] += 1.0
    assert float(pose_loss(other, batch, ones)) == pytest.approx(1 / float(target[0, 0].square().sum()))


def test_loss_of_no_keypoint_is_zero() -> None:
    heatmaps = torch.randn(1, 1, 8, 8, requires_grad=True)
    loss = pose_loss(heatmaps, points((4.0, 4.0, 0.0)), torch.ones(1))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


def test_keypoints_are_decoded_a_quarter_towards_the_better_neighbour() -> None:
    heatmaps = torch.zeros(1, 3, 6, 8)
    heatmaps[0, 0, 2, 5], heatmaps[0, 0, 2, 6], heatmaps[0, 0, 1, 5] = 1.0, 0.5, 0.2
    heatmaps[0, 1, 3, 1], heatmaps[0, 1, 3, 0], heatmaps[0, 1, 4, 1] = 1.0, 0.5, -0.2
    heatmaps[0, 2, 0, 7] = 1.0  # in a corner: as it is
    assert keypoints_of(heatmaps)[0].tolist() == [[5.75, 2.25], [1.25, 3.25], [7.5, 0.5]]


def test_decoding_finds_what_the_targets_hide() -> None:
    batch = points((9.3, 21.1, 1.0), (17.9, 13.2, 1.0))
    found = keypoints_of(gaussians(batch, 8, 8)) * 4
    assert (found - batch.labels[..., :2]).abs().max() <= 1.0  # a quarter of a cell


def test_pck_is_within_a_tenth_of_the_side() -> None:
    heatmaps = torch.zeros(1, 4, 8, 8)
    heatmaps[0, :, 2, 2] = 1.0  # all found at (10, 10), cells of 4 pixels
    batch = points((13.1, 10.0, 1.0), (13.3, 10.0, 1.0), (10.0, 7.0, 1.0), (10.0, 10.0, 0.0))
    assert pose_tally(heatmaps, batch).tolist() == [2, 3]
    assert LEARNING["pose"].value(torch.tensor([0, 0])) == 0


@pytest.mark.parametrize("seed", range(6))
def test_keypoints_move_with_their_pixels(seed: int) -> None:
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    places = [(3, 5), (0, 0), (15, 8), (9, 15)]
    for image, (x, y) in zip(images, places, strict=True):
        image[:, y, x] = 200
    labels = torch.tensor([[[x + 0.5, y + 0.5, 1.0]] for x, y in places])
    batch = Split(images, labels)
    moved = augmented(batch, task="pose", mirrors=True, generator=torch.Generator().manual_seed(seed))
    for image, (x, y, seen) in zip(moved.images, moved.labels[:, 0].tolist(), strict=True):
        assert bool(image.any()) == bool(seen)
        assert not seen or image[0, int(y), int(x)] == 200


def test_a_class_stays_what_it_is() -> None:
    batch = Split(torch.zeros(4, 3, 16, 16, dtype=torch.uint8), torch.tensor([0, 3, 2, 1]))
    moved = augmented(batch, task="classify", mirrors=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved.labels, batch.labels)


def with_auxiliary() -> list[str]:
    """The heads with predictions that only training asks for."""
    return [kind for kind in HEADS if hasattr(HEADS[kind], "predictions")]


@pytest.mark.parametrize("kind", with_auxiliary())
def test_auxiliary_predictions_learn_too(kind: str) -> None:
    data = blobs("segment")
    network = network_of(data, f"{{kind: {kind}, width: 16}}")
    auxiliary = {name: each for name, each in network.head.named_parameters() if "aux" in name}
    before = {name: each.detach().clone() for name, each in auxiliary.items()}
    learner = learner_of(network, data, QUICK, "cpu")
    learn(learner, data, QUICK, step=0, seed=0)
    assert before
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in auxiliary.values() if each.ndim > 1)
    assert all(not torch.equal(each, before[name]) for name, each in auxiliary.items() if each.ndim > 1)


def test_the_auxiliary_loss_has_its_weight() -> None:
    data = blobs("segment")
    network = Twice()
    learner = learner_of(network, data, QUICK, "cpu")
    batch = batch_at(data, QUICK.batch, step=0, seed=0)
    main, auxiliary = network.predictions(normalised(batch.images, data))
    expected = [segment_loss(each, batch, learner.weights).item() for each in (main, auxiliary)]
    assert AUXILIARY == 0.4
    assert learn(learner, data, QUICK, step=0, seed=0) == pytest.approx(expected[0] + 0.4 * expected[1], rel=1e-5)


class Twice(nn.Module):
    """Predicts at stride 4 and, for training, at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.main, self.auxiliary = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 8, 8)

    def forward(self, images: Tensor) -> Tensor:
        prediction: Tensor = self.main(images)
        return prediction

    def predictions(self, images: Tensor) -> list[Tensor]:
        return [self.main(images), self.auxiliary(images)]


@pytest.mark.parametrize("task", TASKS)
def test_the_default_head_predicts_for_its_task(task: str) -> None:
    maps = [Map(8, 4), Map(16, 8)]
    head = HEADS[TASKS[task].head](maps, 5)
    shapes = [(2, each.channels, 64 // each.stride, 64 // each.stride) for each in maps]
    prediction = head([torch.zeros(shape) for shape in shapes])
    assert prediction.ndim == LEARNING[task].dimensions
    assert prediction.shape[:2] == (2, 5)
