"""What a zero-cost proxy is given besides the network. Shapes: B images of height H and width W as it sees them."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from hrsearch.proxy.data.dataset import Dataset
from hrsearch.proxy.learning import batch_at, seen
from hrsearch.proxy.tasks import LEARNING
from hrsearch.runner import Proxy

BATCHES = 4  # mini-batches over which gradients vary


@dataclass(frozen=True)
class Probe:
    """Mini-batches of images (B, 3, H, W) as the network sees them, and the loss of its prediction for each."""

    images: tuple[Tensor, ...]
    loss: Callable[[Tensor, int], Tensor]  # of the prediction, and for which mini-batch


def probe_of(data: Dataset, proxy: Proxy, seed: int) -> Probe:
    """The first mini-batches of the proxy's training."""
    batches = [batch_at(data, proxy.batch, step=step, seed=seed) for step in range(BATCHES)]
    learning = LEARNING[data.task]
    weights = learning.weights(data.train_labels, len(data.classes), proxy.balance)
    images = tuple(seen(batch.images, data, proxy.zoom) for batch in batches)
    return Probe(images, lambda prediction, place: learning.loss(prediction, batches[place], weights))
