"""How wrong is a running search about when it will end? Recorded studies, cut where a share of their time had passed.

    python benchmarks/planning.py reports/hrvit-laptop reports/worked-example reports/hirivit-448/five-1

A study's journal is read as it stood at each share of the time; what `hrsearch run` and `watch` would have told then is
held against what it still took.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hrsearch.search.clock import PREFIX
from hrsearch.search.remaining import seconds_left
from hrsearch.study import read_study

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
JOURNAL = "study.journal"


def ticks(lines: list[bytes]) -> Iterator[tuple[int, float]]:
    """Where the journal's driver noted that it searches, and for how many seconds it had by then."""
    for place, line in enumerate(lines):
        attributes = json.loads(line).get("user_attr") or {}
        for key, value in attributes.items():
            if key.startswith(PREFIX):
                yield place, value[1] - value[0]


def told(lines: list[bytes], workers: int) -> float | None:
    """The seconds that a study of these lines still expects."""
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        study.mkdir()
        (study / JOURNAL).write_bytes(b"".join(lines))
        return seconds_left(read_study(study), workers)


def main() -> None:
    """Print a table, a row a study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    print("| study | minutes |", " | ".join(f"after {share:.0%}" for share in SHARES), "|")
    print("|---" * (2 + len(SHARES)) + "|")
    for folder in asked.studies:
        lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
        noted = list(ticks(lines))
        total = noted[-1][1]
        cells = []
        for share in SHARES:
            place, passed = next((place, passed) for place, passed in noted if passed >= share * total)
            left = told(lines[: place + 1], asked.workers)
            cells.append("nothing" if left is None else f"{left / 60:.1f} ({left / (total - passed) - 1:+.0%})")
        print(f"| {folder.name} | {total / 60:.1f} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
