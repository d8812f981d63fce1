"""Which parameters AdamW decays, and which learn faster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hrsearch.nets.hrformer import RelativePosition


@dataclass(frozen=True)
class Groups:
    """What a recipe says of single parameters."""

    # "vectors": all of one dimension, which are biases and norms; "layer_norms"; "positions": tables of biases
    undecayed: tuple[str, ...] = ("vectors",)
    head_rate: float = 1.0  # the head learns at so many times the rate


USUAL = Groups()


def groups_of(network: nn.Module, given: Mapping[str, Tensor], decay: float, groups: Groups) -> list[dict[str, Any]]:
    """The parameters `given`, named as in the network, as AdamW's groups: those that are decayed first."""
    kept = _undecayed(network, groups.undecayed)
    found: dict[tuple[float, float], list[Tensor]] = {(1.0, decay): [], (1.0, 0.0): []}
    for name, parameter in given.items():
        factor = groups.head_rate if name.startswith("head.") else 1.0
        found.setdefault((factor, 0.0 if name in kept else decay), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": rate, "factor": factor} for (factor, rate), parameters in found.items()
    ]


def _undecayed(network: nn.Module, kinds: tuple[str, ...]) -> set[str]:
    names = {name for name, each in network.named_parameters() if "vectors" in kinds and each.ndim <= 1}
    types = {"layer_norms": nn.LayerNorm, "positions": RelativePosition}
    for path, module in network.named_modules():
        if any(kind in kinds and isinstance(module, type_) for kind, type_ in types.items()):
            names |= {f"{path}.{name}" for name, _ in module.named_parameters()}
    return names
