"""Weights that the authors of published networks released, under our names."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torch import Tensor

from hrsearch.build import Network
from hrsearch.errors import InputError, suggestion

Name = str | Callable[[re.Match[str]], str]


class Family(NamedTuple):
    """How a family's released keys are called.

    Of `names` (pattern of the beginning of our key, what stands there in theirs) the first that fits applies; then
    every one of `words` is replaced. `head` begins the keys of the head, `head_kind` is our kind of it.
    """

    names: tuple[tuple[str, Name], ...]
    words: Mapping[str, str]
    head: str
    head_kind: str


_BATCH_NORM_OF = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}

HRVIT = Family(
    names=(
        (r"stages\.0\.link\.paths\.0_0\.(\d)", lambda m: f"stem.{_BATCH_NORM_OF[m[1]]}"),
        (r"stages\.(\d+)\.link\.paths\.(\d)_(\d)", lambda m: f"features.{2 * int(m[1]) - 2}.blocks.{m[2]}.{m[3]}"),
        (r"stages\.(\d+)\.link\.after\.(\d)\.([01])", lambda m: f"{_stage(m)}.patch_embed.{m[2]}.proj.{m[3]}"),
        (r"stages\.(\d+)\.link\.after\.(\d)\.2", lambda m: f"{_stage(m)}.patch_embed.{m[2]}.norm"),
        (r"stages\.(\d+)\.branches\.(\d)\.(\d+)(?=\.(?:weight|bias))", lambda m: f"{_stage(m)}.norm.{m[2]}"),
        (r"stages\.(\d+)\.branches\.(\d)\.(\d+)", lambda m: f"{_stage(m)}.branches.{m[2]}.{m[3]}"),
        (r"head\.widen\.(\d)\.main\.(\d)", lambda m: f"head.incre_modules.{m[1]}.0.{_BATCH_NORM_OF[m[2]]}"),
        (r"head\.widen\.(\d)\.shortcut", r"head.incre_modules.\1.0.downsample"),
        (r"head\.down", r"head.downsamp_modules"),
        (r"head\.final", r"head.final_layer"),
    ),
    words={
        ".attention_norm.": ".attn_norm.",
        ".attention.query_value.": ".attn.to_qkv.",
        ".attention.local.": ".attn.parallel_conv.1.",
        ".attention.output.": ".attn.to_out.0.",
        ".attention.norm.": ".attn.attn_bn.",
        ".shortcut.left.": ".des.proj_left.",
        ".shortcut.right.": ".des.proj_right.",
        ".feed_norm.": ".ffn_norm.",
        ".feed.expand.": ".ffn.fc1.",
        ".feed.conv3.": ".ffn.conv.conv_3.",
        ".feed.conv5.": ".ffn.conv.conv_5.",
        ".feed.reduce.": ".ffn.fc2.",
    },
    head="head.",
    head_kind="classify_hr",
)

FAMILIES: dict[str, Family] = {"hrvit": HRVIT}


def load_released(network: Network, state_dict: Mapping[str, Tensor], family: str) -> None:
    """Load released weights of a family ("hrvit") into a network of the same architecture, all of them or none.

    A head of another kind than the released classifier keeps its weights, and the classifier's are not needed.
    Otherwise any key that is missing or left over and any shape that differs is an InputError that names it.
    """
    if family not in FAMILIES:
        raise InputError(f"family {family!r} does not exist; {suggestion(family, FAMILIES)}")
    table = FAMILIES[family]
    whole = network.arch.head.kind == table.head_kind
    ours = {key: value for key, value in network.state_dict().items() if whole or not key.startswith("head.")}
    theirs = {key: value for key, value in state_dict.items() if whole or not key.startswith(table.head)}
    names = {key: released_name(key, family) for key in ours}
    _require_equal(family, {names[key]: value for key, value in ours.items()}, theirs)
    network.load_state_dict({key: theirs[name] for key, name in names.items()}, strict=whole)


def released_name(key: str, family: str) -> str:
    """What the family's authors call the tensor that our networks call `key`."""
    table = FAMILIES[family]
    for pattern, name in table.names:
        match = re.match(pattern, key)
        if match:
            key = (name(match) if callable(name) else match.expand(name)) + key[match.end() :]
            break
    for ours, theirs in table.words.items():
        key = key.replace(ours, theirs)
    return key


def _stage(match: re.Match[str]) -> str:
    return f"features.{2 * int(match[1]) - 1}"


def _require_equal(family: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key} {_shape(value)}" for key, value in ours.items() if key not in theirs]
    problems += [f"unexpected {key} {_shape(value)}" for key, value in theirs.items() if key not in ours]
    problems += [
        f"{key} has shape {_shape(theirs[key])}, the network needs {_shape(value)}"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(f"weights do not fit this {family} network: {'; '.join(problems[:5])}{more}")


def _shape(value: Tensor) -> str:
    return str(list(value.shape))
