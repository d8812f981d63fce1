"""The releases of HRNet: classifiers (timm's and the authors'), segmentation, OCR and pose networks, and mmpose's."""

import re
from collections.abc import Callable, Iterator, Mapping

from hrsearch.arch import Arch, inputs_of
from hrsearch.released.family import Family, Weights

Prefixes = Mapping[str, str]  # what begins our keys -> what begins theirs

CONVOLUTIONS = {"main.0": "conv1", "main.1": "bn1", "main.3": "conv2", "main.4": "bn2"}
BOTTLENECK = {**CONVOLUTIONS, "main.6": "conv3", "main.7": "bn3", "shortcut": "downsample"}
BLOCKS: Mapping[str, Prefixes] = {"basic": CONVOLUTIONS, "bottleneck": BOTTLENECK}

CLASSIFIER: Prefixes = {
    **{
        f"head.widen.{index}.{ours}": f"incre_modules.{index}.0.{theirs}"
        for index in range(4)
        for ours, theirs in BOTTLENECK.items()
    },
    "head.down": "downsamp_modules",
    "head.final": "final_layer",
    "head.classifier": "classifier",
}
CONTEXT: Prefixes = {
    f"head.{ours}.{number}": f"ocr_distri_head.{theirs}.{place}"
    for ours, theirs in {
        "query": "object_context_block.f_pixel",
        "key": "object_context_block.f_object",
        "value": "object_context_block.f_down",
        "up": "object_context_block.f_up",
        "fuse": "conv_bn_dropout",
    }.items()
    for number, place in {"0": "0", "1": "1.0", "3": "2", "4": "3.0"}.items()
} | {"head.classifier": "cls_head"}
HEADS: Mapping[str, Prefixes] = {
    "classify_hr": CLASSIFIER,
    "fcn": {"head.fuse": "last_layer", "head.classifier": "last_layer.3"},
    "ocr": {
        **CONTEXT,
        "head.coarse": "aux_head",
        "head.aux_classifier": "aux_head.3",
        "head.pixels": "conv3x3_ocr",
    },
    "pose": {"head.classifier": "final_layer"},
}
HEAD = (
    r"(incre_modules|downsamp_modules|final_layer|classifier|last_layer|aux_head|conv3x3(_ocr)?|ocr_.*head|cls_head)\."
)


def named(
    blocks: Mapping[str, Prefixes], heads: Mapping[str, Prefixes]
) -> Callable[[Arch], Callable[[str], str | None]]:
    """How networks are named whose blocks and heads are named so."""

    def names(arch: Arch) -> Callable[[str], str | None]:
        prefixes = {**dict(_backbone(arch, blocks)), **heads.get(arch.head.kind, {})}

        def name_of(key: str) -> str | None:
            ends = [place for place, letter in enumerate(f"{key}.") if letter == "."]
            found = (key[:end] for end in reversed(ends) if key[:end] in prefixes)
            prefix = next(found, None)
            return None if prefix is None else prefixes[prefix] + key[len(prefix) :]

        return name_of

    return names


def _backbone(arch: Arch, blocks: Mapping[str, Prefixes]) -> Iterator[tuple[str, str]]:
    """Our prefixes and theirs: stem, first stage, and then per row a module, whose fusion is the next row's link."""
    for ours, theirs in {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2"}.items():
        yield f"stages.0.link.paths.0_0.{ours}", theirs
    module = ""
    for row, stage in enumerate(arch.stages):
        before, count = inputs_of(arch, row), len(stage.branches)
        for i in range(count):
            if count > len(before):
                yield f"stages.{row}.link.grow.paths.{i}_{min(i, len(before) - 1)}", f"transition{count - 1}.{i}"
            for j in range(len(before)):
                yield f"stages.{row}.link.fuse.paths.{i}_{j}", f"{module}.fuse_layers.{i}.{j}"
        module = f"stage{count}.{sum(len(earlier.branches) == count for earlier in arch.stages[:row])}"
        for number, branch in enumerate(stage.branches):
            names = blocks.get(branch.block.kind, {}) if branch.block else {}
            where = "layer1" if row == 1 else f"{module}.branches.{number}"
            for place in range(branch.depth):
                for ours, theirs in names.items():
                    yield f"stages.{row}.branches.{number}.{place}.{ours}", f"{where}.{place}.{theirs}"


def read(file: Weights, ours: Weights) -> Weights:
    """mmpose's name of the last layer of a pose network is the authors'."""
    return {re.sub(r"^(keypoint_)?head\.final_layer\.", "final_layer.", name): value for name, value in file.items()}


HRNET = Family(named(BLOCKS, HEADS), heads=tuple(HEADS), head=HEAD, read=read)
