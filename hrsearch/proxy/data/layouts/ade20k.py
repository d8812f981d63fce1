"""ADE20K's scene parsing benchmark (Zhou et al., 2017) as it is handed out: 150 classes, 0 in a mask is none."""

from pathlib import Path

from hrsearch.proxy.data.layout import Layout, Part, paired, pictures_in, root_with, table_of, text_of

COUNT = 150
TABLE = table_of({value: value - 1 for value in range(1, COUNT + 1)}, ignored=(0,))
FOLDERS = {"train": "training", "val": "validation"}
NAMES = "objectInfo150.txt"  # comes with the data: a table whose last column holds the classes' names


def _root(path: Path) -> Path | None:
    return root_with(path, ("ADEChallengeData2016",), ("images/training", "annotations/training"))


def _part(root: Path, part: str) -> Part:
    images = [(file.stem, file) for file in pictures_in(root / "images" / FOLDERS[part])]
    masks = {file.stem: (file, TABLE) for file in pictures_in(root / "annotations" / FOLDERS[part], (".png",))}
    return paired(images, masks)


def _classes(root: Path) -> tuple[str, ...]:
    path = root / NAMES
    lines = text_of(path).splitlines()[1:] if path.is_file() else []
    names = tuple(line.split("\t")[-1].split(",")[0].strip() for line in lines if line.strip())
    return names if len(names) == COUNT else tuple(str(number) for number in range(1, COUNT + 1))


ADE20K = Layout(
    "ADE20K",
    "segment",
    "ADEChallengeData2016/{images,annotations}/{training,validation}",
    _root,
    _part,
    lambda root: (root / "images/validation").is_dir(),
    _classes,
)
