"""The release of HRViT: the classifiers, and the backbones of the segmentation networks."""

import re
from collections.abc import Callable

from hrsearch.arch import Arch
from hrsearch.released.family import Family

Name = str | Callable[[re.Match[str]], str]

_BATCH_NORM_OF = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


def _stage(match: re.Match[str]) -> str:
    return f"features.{2 * int(match[1]) - 1}"


# Of these (pattern of the beginning of our key, what stands there in theirs) the first that fits applies.
BEGINNINGS: tuple[tuple[str, Name], ...] = (
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
    (r"head\.classifier", r"head.classifier"),
)

# Then every one of these is replaced.
WORDS = {
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
}


def name_of(key: str) -> str | None:
    """What the authors call the tensor that our networks call `key`."""
    for pattern, name in BEGINNINGS:
        match = re.match(pattern, key)
        if match:
            key = (name(match) if callable(name) else match.expand(name)) + key[match.end() :]
            for ours, theirs in WORDS.items():
                key = key.replace(ours, theirs)
            return key
    return None


def _names(arch: Arch) -> Callable[[str], str | None]:
    return name_of


HRVIT = Family(_names, heads=("classify_hr",), head=r"((decode_|auxiliary_)?head)\.", read=lambda file, ours: file)
