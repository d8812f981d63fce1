"""Cityscapes (Cordts et al., 2016) with its fine annotations: the 19 classes that count, by label or training ids."""

from pathlib import Path

from hrsearch.proxy.data.layout import Layout, Part, Table, paired, root_with, table_of

LABELS = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
TABLES = {  # by the end of a mask's name, the more readily taken last
    "_gtFine_labelTrainIds.png": table_of({value: value for value in range(len(LABELS))}),
    "_gtFine_labelIds.png": table_of({value: number for number, value in enumerate(LABELS)}, ignored=range(34)),
}
IMAGE = "_leftImg8bit.png"


def _root(path: Path) -> Path | None:
    return root_with(path, ("cityscapes",), ("leftImg8bit/train", "gtFine/train"))


def _part(root: Path, part: str) -> Part:
    pictures = sorted((root / "leftImg8bit" / part).glob(f"*/*{IMAGE}"))
    images = [(f"{file.parent.name}/{file.name.removesuffix(IMAGE)}", file) for file in pictures]
    masks: dict[str, tuple[Path, Table]] = {}
    for end, table in TABLES.items():
        for file in sorted((root / "gtFine" / part).glob(f"*/*{end}")):
            masks[f"{file.parent.name}/{file.name.removesuffix(end)}"] = (file, table)
    return paired(images, masks)


CITYSCAPES = Layout(
    "Cityscapes",
    "segment",
    "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png",
    _root,
    _part,
    lambda root: (root / "leftImg8bit/val").is_dir(),
    lambda root: tuple(LABELS.values()),
)
