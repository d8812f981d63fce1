"""The export `timm`: a file that registers the network with timm, on top of the standalone one."""

from importlib import import_module
from pathlib import Path
from typing import Any

from hrsearch.export.standalone import LOADER
from hrsearch.export.target import Target
from hrsearch.export.winner import Winner
from hrsearch.registry import EXPORTS

MODULE = "timm_model.py"
TEXT = '''\
"""{title} for timm: import this module, then `timm.create_model("{name}")`."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models import FeatureInfo, register_model
from torch import Tensor, nn

{loader}
NAME = "{name}"


class Features(nn.Module):
    """Images (B, 3, H, W) -> the maps of `out_indices`; 0 is the finest. `feature_info` describes them as timm does."""

    def __init__(self, network: nn.Module, out_indices: Sequence[int] | None) -> None:
        super().__init__()
        self.network = network
        self.network.head = nn.Identity()
        maps = enumerate(zip(network.channels, network.strides, strict=True))
        rows = [{{"num_chs": width, "reduction": stride, "module": f"map{{index}}"}} for index, (width, stride) in maps]
        self.feature_info = FeatureInfo(rows, tuple(range(len(rows)) if out_indices is None else out_indices))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = self.network.pyramid(image)
        return [maps[index] for index in self.feature_info.out_indices]


@register_model
def {name}(
    pretrained: bool = False,
    *,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    num_classes: int = {classes},
    in_chans: int = 3,
    **options: Any,  # what timm gives to every model: nothing here needs it
) -> nn.Module:
    """The network, or with `features_only` its maps. `pretrained` takes the weights beside this file.

    For another number of classes the layers that predict them stay untrained.
    """
    if in_chans != 3:
        raise ValueError(f"{{NAME}}: images of 3 channels, but got in_chans={{in_chans}}")
    network = MODEL.Network(num_classes)
    if pretrained:
        weights = torch.load(Path(__file__).with_name("weights.pt"), map_location="cpu", weights_only=True)
        own = network.state_dict()
        network.load_state_dict({{**own, **{{k: v for k, v in weights.items() if v.shape == own[k].shape}}}})
    return Features(network, out_indices) if features_only else network
'''
USAGE = """\
`timm_model.py` registers the network with timm as `{name}`. In this folder:

```python
import timm
import timm_model

network = timm.create_model("{name}", pretrained=True)
backbone = timm.create_model("{name}", pretrained=True, features_only=True)
backbone.feature_info.channels()  # {channels}
```
"""


def timm_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What timm makes of the registered network, as a whole and as a backbone."""
    import timm
    import torch

    name = import_module("timm_model").NAME
    network = timm.create_model(name, pretrained=True).eval()
    backbone: Any = timm.create_model(name, pretrained=True, features_only=True).eval()
    with torch.inference_mode():
        prediction, maps = network(torch.from_numpy(image)), backbone(torch.from_numpy(image))
    channels = [each.shape[1] for each in maps]
    if channels != backbone.feature_info.channels():
        raise ValueError(f"maps of {channels} channels, but timm is told {backbone.feature_info.channels()}")
    return {"prediction": prediction.numpy()} | {f"map{index}": each.numpy() for index, each in enumerate(maps)}


@EXPORTS.add("timm")
class Timm(Target):
    """A registration with timm."""

    upon = ("standalone",)
    outputs = staticmethod(timm_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write timm_model.py."""
        name = f"hrsearch_{winner.identifier}"
        names = {"title": winner.title_in_code, "identifier": winner.identifier, "name": name}
        text = TEXT.format(**names, loader=LOADER.format(**names), classes=winner.classes)
        (folder / MODULE).write_text(text, encoding="utf-8")
        return USAGE.format(name=name, channels=[each.channels for each in winner.arch.maps])
