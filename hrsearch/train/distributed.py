"""The processes that train one network together, as torchrun starts them; a process alone is the usual case.

Each is given its part of every batch, and all end every step with the same weights.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hrsearch.errors import InputError
from hrsearch.proxy.learning import predictions_of

Predict = Callable[[Tensor], list[Tensor]]
# As long as the first process may read the data for all (see `leader_first`); torch's ten minutes end it on ImageNet.
# A process that dies is not waited for: torchrun ends the others.
PATIENCE = timedelta(hours=12)
PROBED = 64  # side of the image by which it is seen what has a part in the predictions


@dataclass(frozen=True)
class Team:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    local: int = 0  # its number on this machine
    here: int = 1  # processes on this machine

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """What the first process does in here it has done before the others begin."""
        if self.size > 1 and not self.leads:
            dist.barrier()
        yield
        if self.size > 1 and self.leads:
            dist.barrier()


@contextmanager
def team_of(device: str) -> Iterator[Team]:
    """The team that torchrun's environment tells of, connected for a training on cpu or cuda."""
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield Team()
        return
    here = {key: int(os.environ.get(f"LOCAL_{name}", 0)) for key, name in (("local", "RANK"), ("here", "WORLD_SIZE"))}
    team = Team(int(os.environ["RANK"]), size, here["local"], max(here["here"], 1))
    if device == "cuda":
        torch.cuda.set_device(team.local)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield team
    finally:
        dist.destroy_process_group()


def require_even(team: Team, batch: int, accumulate: int) -> None:
    """An InputError unless every process and every part of a step is given as many images."""
    if batch % (team.size * accumulate):
        raise InputError(f"batch: {team.size} processes times accumulate {accumulate} must divide it, but got {batch}")


class Predicting(nn.Module):
    """A network as training calls it: images (B, 3, H, W) -> its prediction and the auxiliary ones."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> list[Tensor]:
        return predictions_of(self.network, images)


def shared(network: nn.Module, team: Team, device: torch.device, *, compiled: bool) -> Predict:
    """The network as training calls it, its gradients averaged over the team's processes."""
    if team.size > 1:
        freeze_idle(network, device)
    predict: Any = Predicting(network)
    if compiled:
        predict = torch.compile(predict)
    if team.size > 1:
        places = [device] if device.type == "cuda" else None
        predict = DistributedDataParallel(predict, device_ids=places)
    result: Predict = predict
    return result


def freeze_idle(network: nn.Module, device: torch.device) -> None:
    """Let parameters that have no part in the predictions ask for no gradient, as DDP would miss it at the second step.

    Such are the coarser branches of the last stage under a head that reads the finest map alone. One process does not
    train them either.
    """
    was_training = network.training
    network.eval()  # no statistics move, nothing is drawn
    asked = [parameter for parameter in network.parameters() if parameter.requires_grad]
    predictions = predictions_of(network, torch.zeros(1, 3, PROBED, PROBED, device=device))
    total = torch.stack([each.sum() for each in predictions]).sum()
    for parameter, gradient in zip(asked, torch.autograd.grad(total, asked, allow_unused=True), strict=True):
        parameter.requires_grad_(gradient is not None)
    network.train(was_training)


def alone(predict: Predict, is_last: bool) -> Any:
    """In which a pass leaves its gradients here, unless it is the last of a step."""
    if is_last or not isinstance(predict, DistributedDataParallel):
        return nullcontext()
    return predict.no_sync()


def with_shared_norms(network: nn.Module, team: Team, device: torch.device) -> None:
    """Let batch norms see the images of all processes: torch's on CUDA, which it needs, ours elsewhere."""
    if team.size == 1:
        return
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(child)  # type: ignore[no-untyped-call]
                setattr(module, name, made if device.type == "cuda" else SharedNorm.of(child))


class SharedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the images of all processes: (B, C, ...) -> (B, C, ...). Keys and state are batch norm's."""

    @staticmethod
    def of(norm: nn.modules.batchnorm._BatchNorm) -> "SharedNorm":
        """With the weights and buffers of `norm`."""
        made = SharedNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        made._parameters, made._buffers, made.training = norm._parameters, norm._buffers, norm.training
        return made

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = summed(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = summed(x.sum(dims)) / count
        away = x - mean.view(shape)
        variance = summed(away.square().sum(dims)) / count
        self._follow(mean.detach(), variance.detach(), float(count))
        out: Tensor = away * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if not self.track_running_stats:
            return
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / max(count - 1, 1), share)


def summed(values: Tensor) -> Tensor:
    """The sum over the processes, through which gradients flow."""
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum over the processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def device_of(name: str | None) -> torch.device:
    """The device of this name, or what is there; an InputError if it cannot be used."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r}: cannot be used ({str(error).splitlines()[0]})") from None
    return device
