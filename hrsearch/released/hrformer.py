"""The releases of HRFormer: classifiers, segmentation and pose networks, and mmpose's."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from hrsearch.errors import InputError
from hrsearch.nets.hrformer import relative_index
from hrsearch.released import hrnet
from hrsearch.released.family import Family, Weights
from hrsearch.released.hrnet import BOTTLENECK, CLASSIFIER, CONTEXT, HEAD, Prefixes, named

# Ours hold queries, keys and values in one layer, as mmpose's do.
WINDOW: Prefixes = {
    "attention_norm": "norm1",
    "attention.query_key_value": "attn.attn.qkv",
    "attention.output": "attn.attn.out_proj",
    "attention.position.table": "attn.attn.relative_position_bias_table",
    "feed_norm": "norm2",
    "feed.0": "mlp.fc1",
    "feed.1": "mlp.norm1",
    "feed.3": "mlp.dw3x3",
    "feed.4": "mlp.norm2",
    "feed.6": "mlp.fc2",
    "feed.7": "mlp.norm3",
}
HEADS: Mapping[str, Prefixes] = {
    "classify_hr": CLASSIFIER,
    "ocr": {
        **CONTEXT,
        "head.coarse.0": "aux_head.0",
        "head.coarse.1": "aux_head.1.0",
        "head.aux_classifier": "aux_head.2",
        "head.pixels.0": "conv3x3.0",
        "head.pixels.1": "conv3x3.1.0",
    },
    "pose": {"head.classifier": "final_layer"},
}


def read(file: Weights, ours: Weights) -> Weights:
    """Queries, keys and values in one, mmpose's names as the authors', position biases as our windows need them."""
    words = {".ffn.": ".mlp.", ".attn.attn.proj.": ".attn.attn.out_proj."}
    weights = dict(hrnet.read(file, ours))
    for theirs, name in words.items():
        weights = {key.replace(theirs, name): value for key, value in weights.items()}
    return _positioned(_joined(weights), ours)


def _joined(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    joined = dict(weights)
    for key in weights:
        three = [key.replace(".q_proj.", f".{letter}_proj.") for letter in "qkv"]
        if ".q_proj." in key and all(each in weights for each in three):
            joined[key.replace(".q_proj.", ".qkv.")] = torch.cat([joined.pop(each) for each in three])
    return joined


def _positioned(weights: dict[str, Tensor], ours: Weights) -> dict[str, Tensor]:
    """Tables resized to our windows, or left out where our blocks have none; the indices checked and left out."""
    out = {}
    for key, value in weights.items():
        if key.endswith(".relative_position_index"):
            _require_index(key, value)
        elif not key.endswith(".relative_position_bias_table"):
            out[key] = value
        elif key in ours:
            out[key] = resized_positions(value, len(ours[key]))
    return out


def _require_index(key: str, index: Tensor) -> None:
    if not torch.equal(index.cpu(), relative_index(math.isqrt(len(index)))):
        raise InputError(f"weights: {key} {list(index.shape)} is not the index of a square window's positions")


def resized_positions(table: Tensor, rows: int) -> Tensor:
    """The table of another window, each column as an image: (rows, heads)."""
    side, wanted = math.isqrt(len(table)), math.isqrt(rows)
    if side == wanted or side * side != len(table) or table.ndim != 2:
        return table
    images = table.t().reshape(1, -1, side, side)
    return F.interpolate(images, (wanted, wanted), mode="bilinear", align_corners=False).flatten(2)[0].t()


HRFORMER = Family(named({"window": WINDOW, "bottleneck": BOTTLENECK}, HEADS), heads=tuple(HEADS), head=HEAD, read=read)
