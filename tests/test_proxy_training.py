"""Short training: it learns, it is a function of its seed, and a candidate that cannot be trained says why."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrsearch.errors import CandidateFailed
from hrsearch.objective import LIKELIHOOD
from hrsearch.proxy import train_proxy
from hrsearch.proxy.data import Dataset, Split, load_dataset
from hrsearch.proxy.data.dataset import dataset_of
from hrsearch.proxy.learning import (
    augmented,
    batch_at,
    learner_of,
    normalised,
    optimizers_of,
    rate_factor,
    validate,
)
from hrsearch.proxy.muon import Muon
from hrsearch.proxy.tasks import class_weights, segment_loss, shares_of
from hrsearch.runner import Proxy

QUICK = Proxy(image=32, batch=8, steps=60, warmup=5, rate=1e-2, train_images=256, val_images=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HRSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return load_dataset("digits", image=32, train_images=256, val_images=32)


def tiny(classes: int = 11) -> nn.Module:
    """Logits at stride 4."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
        nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(32, classes, 3, 1, 1),
    )  # fmt: skip


def test_tiny_network_learns(data: Dataset) -> None:
    torch.set_num_threads(1)
    short = train_proxy(tiny(), data, QUICK.model_copy(update={"steps": 6}), seed=0)
    long = train_proxy(tiny(), data, QUICK, seed=0)
    assert long.loss < 0.9 * short.loss
    assert long.value > 0.1  # all background is (.7 + 0 + ... + 0) / 11 = .06
    assert (long.metric, long.steps, long.images, long.seed, long.rung) == ("mIoU", 60, 480, 0, 0)
    assert long.seconds > 0


def test_from_rung_to_rung_ends_where_training_at_once_does(data: Dataset, tmp_path: Path) -> None:
    plan = QUICK.model_copy(update={"steps": 24, "rungs": (8, 14)})
    alone = [train_proxy(tiny(), data, plan.model_copy(update={"steps": n, "rungs": ()}), seed=0) for n in (8, 14, 24)]
    kept = tmp_path / "rungs" / "0.pt"
    climbed = [train_proxy(tiny(), data, plan, seed=0, rung=rung, checkpoint=kept) for rung in range(3)]
    assert [score.value for score in climbed] == [score.value for score in alone]
    assert [score.loss for score in climbed] == [score.loss for score in alone]
    assert [(score.rung, score.steps) for score in climbed] == [(0, 8), (1, 14), (2, 24)]
    assert [score.losses[-1][0] for score in climbed] == [8, 14, 24]  # every curve ends where its training does
    assert len(climbed[2].losses) < len(alone[2].losses) == 12  # and begins where the rung before had left off


def test_a_rung_is_reached_without_its_checkpoint_too(data: Dataset, tmp_path: Path) -> None:
    plan = QUICK.model_copy(update={"steps": 14, "rungs": (8,)})
    kept = tmp_path / "0.pt"
    train_proxy(tiny(), data, plan, seed=0, rung=0, checkpoint=kept)
    with_it = train_proxy(tiny(), data, plan, seed=0, rung=1, checkpoint=kept)
    kept.write_bytes(kept.read_bytes()[:100])
    broken = train_proxy(tiny(), data, plan, seed=0, rung=1, checkpoint=kept)
    of_another = tmp_path / "1.pt"
    train_proxy(tiny(), data, plan, seed=1, rung=0, checkpoint=of_another)
    foreign = train_proxy(tiny(), data, plan, seed=0, rung=1, checkpoint=of_another)
    assert with_it.value == broken.value == foreign.value


def test_score_is_a_function_of_weights_and_seed(data: Dataset) -> None:
    few = QUICK.model_copy(update={"steps": 5})
    first, again, other = (train_proxy(tiny(), data, few, seed=seed) for seed in (0, 0, 1))
    assert (first.value, first.loss) == (again.value, again.loss)
    assert first.loss != other.loss


def test_half_precision_trains(data: Dataset) -> None:
    score = train_proxy(tiny(), data, QUICK.model_copy(update={"steps": 3, "precision": "bf16"}), seed=0)
    assert 0 < score.loss < 10


def test_loss_that_is_not_finite_fails_the_candidate(data: Dataset) -> None:
    network = tiny()
    with torch.no_grad():
        list(network.parameters())[-1].fill_(torch.nan)
    with pytest.raises(CandidateFailed, match="loss is nan at step 0"):
        train_proxy(network, data, QUICK, seed=0)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_memory_that_runs_out_fails_the_candidate(data: Dataset, error: Exception) -> None:
    with pytest.raises(CandidateFailed, match="out of memory"):
        train_proxy(Raises(error), data, QUICK, seed=0)


def test_other_errors_are_ours_to_see(data: Dataset) -> None:
    with pytest.raises(RuntimeError, match="sizes differ"):
        train_proxy(Raises(RuntimeError("sizes differ")), data, QUICK, seed=0)


class Raises(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        raise self.error


def test_rate_warms_up_stays_and_falls() -> None:
    factors = [rate_factor(Proxy(steps=100, warmup=10), step) for step in range(100)]
    assert factors[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert factors[10:65] == [1.0] * 55
    assert all(late < early for early, late in itertools.pairwise(factors[65:]))
    assert 0 < factors[-1] < 0.04


def test_rate_follows_a_cosine() -> None:
    factors = [rate_factor(Proxy(steps=110, warmup=10, schedule="cosine"), step) for step in range(110)]
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert all(late < early for early, late in itertools.pairwise(factors[10:]))


def test_biases_and_norms_are_not_decayed() -> None:
    network = tiny()
    (adamw,) = optimizers_of(network, Proxy(optimizer="adamw", rate=0.1, decay=0.5))
    decayed, plain = adamw.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.5, 0.0)
    assert [parameter.ndim for parameter in decayed["params"]] == [4, 4, 4]
    assert len(decayed["params"]) + len(plain["params"]) == len(list(network.parameters()))


class Mixed(nn.Module):
    """A dense convolution, a depthwise one, a narrow one and a linear layer, channels last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(3, 16, 3)
        self.depthwise = nn.Conv2d(16, 16, 3, groups=16)
        self.narrow = nn.Conv2d(16, 4, 1)
        self.linear = nn.Linear(16, 20)
        self.tokens = nn.Conv1d(16, 16, 3)  # as a plug-in may have one
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def test_every_parameter_has_one_optimizer() -> None:
    network = Mixed()
    adamw, muon = optimizers_of(network, Proxy(optimizer="muon"))
    assert isinstance(muon, Muon)
    assert [id(weight) for weight in muon.weights] == [id(network.dense.weight), id(network.linear.weight)]
    others = [id(parameter) for group in adamw.param_groups for parameter in group["params"]]
    assert sorted(others + [id(weight) for weight in muon.weights]) == sorted(map(id, network.parameters()))


def test_muon_goes_equally_far_in_every_direction() -> None:
    network = Mixed()
    weight = network.dense.weight
    before = weight.detach().clone()
    muon = Muon([weight], rate=0.1, decay=0.0)
    network.dense(torch.randn(2, 3, 9, 9)).square().sum().backward()
    muon.take_gradients()
    muon.step()
    step = (before - weight.detach()).flatten(1)
    sizes = torch.linalg.svdvals(step) / (0.1 * 0.2 * 27**0.5)  # of AdamW's size: Liu et al., 2025
    assert sizes.min() > 0.5
    assert sizes.max() < 1.3
    assert weight.grad is not None
    assert float((step * weight.grad.flatten(1)).sum()) > 0  # down the loss


def test_muon_steps_as_torchs_but_for_its_rounding() -> None:
    """torch's, which orthogonalises in bfloat16, matrix by matrix; ours takes the three of one shape together."""
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(16, 40)) for _ in range(3)] + [nn.Parameter(torch.randn(50, 20))]
    torchs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    begun = [weight.detach().clone() for weight in ours]
    both = (
        Muon(ours, rate=0.1, decay=0.2),
        torch.optim.Muon(torchs, lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(3):
        for one, other in zip(ours, torchs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        both[0].take_gradients()
        for optimizer in both:
            optimizer.step()
    for start, one, other in zip(begun, ours, torchs, strict=True):
        assert torch.dist(one.detach(), other.detach()) < 0.02 * torch.dist(one.detach(), start)


def test_muon_passes_over_what_has_no_gradient() -> None:
    weight = Mixed().linear.weight
    before = weight.detach().clone()
    muon = Muon([weight], rate=0.1, decay=0.5)
    muon.take_gradients()
    muon.step()
    assert torch.equal(weight, before)


def marked(count: int) -> Dataset:
    """Images of 16 pixels that carry their own number."""
    numbers = torch.arange(count, dtype=torch.uint8)
    images = numbers[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    split = Split(images, images[:, 0] % 3)
    return dataset_of(split, split, ("a", "b", "c"), mirrors=True)


def test_every_image_comes_once_an_epoch() -> None:
    data = marked(10)
    seen = torch.cat([batch_at(data, 5, step=step, seed=3).images[:, 0, 8, 8] for step in range(4)]).tolist()
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert seen[:5] != batch_at(data, 5, step=0, seed=4).images[:, 0, 8, 8].tolist()


def test_batches_may_be_larger_than_the_data() -> None:
    assert sorted(batch_at(marked(4), 8, step=0, seed=0).images[:, 0, 8, 8].tolist()) == sorted([0, 1, 2, 3] * 2)


def test_first_epoch_is_plain_and_later_ones_are_augmented() -> None:
    data = marked(10)
    assert all((batch_at(data, 5, step=step, seed=0).labels != 255).all() for step in range(2))
    assert any((batch_at(data, 5, step=step, seed=0).labels == 255).any() for step in range(2, 8))


@pytest.mark.parametrize("seed", range(6))
def test_augmented_labels_stay_on_their_pixels(seed: int) -> None:
    images = torch.arange(1, 129, dtype=torch.uint8).view(2, 1, 8, 8).expand(-1, 3, -1, -1).contiguous()
    generator = torch.Generator().manual_seed(seed)
    moved = augmented(Split(images, images[:, 0]), task="segment", mirrors=True, generator=generator)
    known = moved.labels != 255
    assert known.float().mean() > 0.7
    assert torch.equal(moved.images[:, 1][known], moved.labels[known])


def scenes_of(labels: Tensor) -> Split:
    """Black images with these labels."""
    return Split(torch.zeros(len(labels), 3, *labels.shape[1:], dtype=torch.uint8), labels.to(torch.uint8))


def test_loss_at_full_resolution_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 5, 6, 7), torch.randint(5, (2, 6, 7))
    labels[0, :3] = 255
    weights = torch.rand(5)
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    torch.testing.assert_close(segment_loss(logits, scenes_of(labels), weights), expected)


def test_shares_are_what_lies_under_a_cell() -> None:
    labels = torch.tensor([[[0, 0, 1, 255], [0, 2, 1, 255]]], dtype=torch.uint8)
    assert shares_of(labels, 3, 1, 2)[0, :, 0].T.tolist() == [[0.75, 0, 0.25], [0, 0.5, 0]]


def test_loss_of_ignored_pixels_alone_is_zero() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = segment_loss(logits, scenes_of(torch.full((1, 4, 4), 255)), torch.ones(3))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0


def test_rare_classes_weigh_more() -> None:
    labels = torch.tensor([0] * 9 + [1], dtype=torch.uint8).view(1, 1, 10)
    assert class_weights(labels, 2, 0.0).tolist() == [1.0, 1.0]
    even = class_weights(labels, 2, 1.0)
    assert (even * torch.tensor([9.0, 1.0])).tolist() == pytest.approx([5.0, 5.0])


def test_validation_is_at_the_labels_resolution(data: Dataset) -> None:
    """A network that knows the answer at stride 1 is perfect; the same at stride 4 is not."""
    images = F.one_hot(data.val.labels.long(), 11).permute(0, 3, 1, 2)[:, 1:4].to(torch.uint8) * 255
    kept = data.val.labels.masked_fill(data.val.labels > 3, 255)
    told = replace(data, val=Split(images, kept), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    for stride, perfect in ((1, True), (4, False)):
        value, _ = validate(learner_of(Knows(stride), told, QUICK, "cpu"), told, QUICK)
        assert (value == 1) is perfect
        assert value > 0.5


class Knows(nn.Module):
    """Reads the class from the channel that is lit."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        logits = F.pad(F.avg_pool2d(images, self.stride), (0, 0, 0, 0, 1, 7), value=-2.0)
        logits[:, 0] = -0.5
        return logits


def test_shared_pages_are_not_written(data: Dataset, tmp_path: Path) -> None:
    before = data.train.images.clone()
    train_proxy(tiny(), data, QUICK.model_copy(update={"steps": 2, "batch": 300}), seed=0)
    assert torch.equal(data.train.images, before)


def test_the_loss_of_a_score_is_that_of_the_validation_images(data: Dataset) -> None:
    """The same for all candidates, whatever batches they trained on last; a batch weighs by its images."""
    still = QUICK.model_copy(update={"steps": 2, "warmup": 0, "rate": 1e-12})
    found = [train_proxy(tiny(), data, still.model_copy(update={"batch": n}), seed=n) for n in (8, 20)]
    assert found[0].losses != found[1].losses  # of training
    network = tiny().eval()
    for score, batch in zip(found, (8, 20), strict=True):
        # As many steps of training moved the norms' averages; nothing else moves at this rate.
        train_proxy(network, data, still.model_copy(update={"batch": batch}), seed=batch)
        weights = class_weights(data.train.labels, len(data.classes), still.balance)
        with torch.no_grad():
            logits = network.eval()(normalised(data.val.images, data))
        parts = zip(torch.split(logits, batch), torch.split(data.val.labels, batch), strict=True)
        losses = [
            len(part) * float(segment_loss(part, Split(data.val.images, labels), weights)) for part, labels in parts
        ]
        assert score.loss == pytest.approx(sum(losses) / len(data.val), rel=1e-4)
        network = tiny()


def test_a_score_may_be_the_likelihood_of_the_labels(data: Dataset) -> None:
    plan = QUICK.model_copy(update={"steps": 8})
    plain, likely = (
        train_proxy(tiny(), data, plan.model_copy(update={"score": one}), seed=0) for one in ("metric", LIKELIHOOD)
    )
    assert (plain.metric, likely.metric) == ("mIoU", LIKELIHOOD)
    assert plain.metrics == likely.metrics == {"mIoU": plain.value, LIKELIHOOD: likely.value}
    assert likely.value == pytest.approx(math.exp(-plain.loss))
    assert plain.losses == likely.losses
