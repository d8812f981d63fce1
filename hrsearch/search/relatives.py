"""From which trained network of its study a candidate inherits weights."""

from collections.abc import Mapping
from typing import Any

from hrsearch.arch import Arch
from hrsearch.candidate import weights_path
from hrsearch.study import Record


def relative_of(knobs: Mapping[str, Any], arch: Arch, record: Record) -> int | None:
    """The number of the nearest trial of the front that is of the same family and whose weights lie in the study.

    The nearest differs in the fewest knobs; of several it is the first. None without any. Others than those of the
    front lose their weights at some moment, on which the choice must not depend.
    """
    found = [
        (_apart(knobs, trial.knobs), trial.number)
        for trial in record.front()
        if _family(Arch.from_dict(trial.attributes["arch"])) == _family(arch)
        and weights_path(record.folder, trial.number).is_file()
    ]
    return min(found)[1] if found else None


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    """How many knobs differ, or are read by one of them only."""
    return sum(one.get(name) != other.get(name) for name in {**one, **other})


def _family(arch: Arch) -> str:
    return arch.stages[-1].link.kind
