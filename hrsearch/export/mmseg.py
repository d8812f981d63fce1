"""The export `mmseg`: a backbone for mmsegmentation and a config that uses it, on top of the standalone file."""

from pathlib import Path
from typing import Any

from hrsearch.export.standalone import LOADER
from hrsearch.export.target import Target
from hrsearch.export.winner import Winner
from hrsearch.registry import EXPORTS

BACKBONE, CONFIG = "mmseg_backbone.py", "mmseg_config.py"
BACKBONE_TEXT = '''\
"""{title} as a backbone of mmsegmentation: the config names this module in `custom_imports`."""

import importlib.util
from pathlib import Path
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor, nn

{loader}

@MODELS.register_module("hrsearch_{identifier}")
class Backbone(nn.Module):
    """Images (B, 3, H, W) -> the maps, finest first; `pretrained` takes the weights beside this file."""

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.network = MODEL.load() if pretrained else MODEL.Network()
        self.network.head = nn.Identity()

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.network.pyramid(image)
'''
CONFIG_TEXT = '''\
"""{title} in mmsegmentation. Give it a data set and a schedule: `_base_ = [...]`.

Images are normalised by the mean and the deviation of {whose}.
"""

default_scope = "mmseg"
custom_imports = {{"imports": ["mmseg_backbone"], "allow_failed_imports": False}}
crop_size = {image}
model = {{
    "type": "EncoderDecoder",
    "data_preprocessor": {{
        "type": "SegDataPreProcessor",
        "size": crop_size,
        "mean": {mean},
        "std": {std},
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": 255,
    }},
    "backbone": {{"type": "hrsearch_{identifier}", "pretrained": True}},
    "decode_head": {{
        "type": "SegformerHead",
        "in_channels": {channels},
        "in_index": {indices},
        "channels": {width},
        "num_classes": {classes},
        "dropout_ratio": 0.1,
        "norm_cfg": {{"type": "BN", "requires_grad": True}},  # SyncBN on several GPUs
        "align_corners": False,
        "loss_decode": {{"type": "CrossEntropyLoss", "use_sigmoid": False, "loss_weight": 1.0}},
    }},
    "train_cfg": {{}},
    "test_cfg": {{"mode": "whole"}},
}}
'''
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
USAGE = """\
`mmseg_config.py` is a model for mmsegmentation, whose backbone `mmseg_backbone.py` registers. It takes mmsegmentation's
SegformerHead, untrained, with the channels of the maps: {channels}. Give it a data set and a schedule by `_base_`. Its
tools must find the backbone:

```sh
PYTHONPATH=THIS_FOLDER python tools/train.py THIS_FOLDER/mmseg_config.py
```

The check reads the config with mmengine and runs the backbone; mmsegmentation's own head was not run.
"""


def mmseg_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What the backbone of the config computes; its maps must have the channels that the decode head is given."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS

    model = Config.fromfile(folder / "mmseg_config.py").model
    backbone = MODELS.build(model.backbone).eval()
    with torch.inference_mode():
        maps = backbone(torch.from_numpy(image))
    channels = [each.shape[1] for each in maps]
    if channels != model.decode_head.in_channels:
        raise ValueError(f"the decode head is given {channels}, but takes {model.decode_head.in_channels}")
    return {f"map{index}": each.numpy() for index, each in enumerate(maps)}


@EXPORTS.add("mmseg")
class Mmseg(Target):
    """A backbone and a config for mmsegmentation."""

    upon = ("standalone",)
    outputs = staticmethod(mmseg_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write mmseg_backbone.py and mmseg_config.py."""
        names = {"title": winner.title_in_code, "identifier": winner.identifier}
        channels = [each.channels for each in winner.arch.maps]
        backbone = BACKBONE_TEXT.format(**names, loader=LOADER.format(**names))
        known = winner.normalisation
        pixels = {name: [round(255 * each, 3) for each in values] for name, values in (known or IMAGENET).items()}
        config = CONFIG_TEXT.format(
            **names,
            **pixels,
            whose="the images that the weights were trained on" if known else "ImageNet: the weights do not say theirs",
            image=winner.image,
            channels=channels,
            indices=list(range(len(channels))),
            width=winner.arch.head.keywords().get("width", 256),
            classes=winner.classes,
        )
        (folder / BACKBONE).write_text(backbone, encoding="utf-8")
        (folder / CONFIG).write_text(config, encoding="utf-8")
        return USAGE.format(channels=", ".join(map(str, channels)))
