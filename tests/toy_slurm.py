"""SLURM's commands on a machine without it: a job is a process of this machine, or ends as it is told to."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

COMMANDS = {
    "sbatch": """
number=$(($(ls | grep -c '^job-') + 1))
fate=$(sed -n "${number}p" fates)
echo "${fate:-RUNNING}" > "job-$number"
if [ -z "$fate" ]; then
    (SLURM_JOB_ID=$number sh "$1"; echo COMPLETED > "job-$number") > log 2>&1 &
fi
echo "Submitted batch job $number"
""",
    # The script's own srun has its options first, then Python.
    "srun": """
while [ "${1#--}" != "$1" ]; do
    case $1 in --output | --error) shift ;; esac
    shift
done
exec "$@"
""",
    "sacct": """
if [ -e away ]; then
    echo "sacct: error: slurmdbd:"
    echo "Connection refused"
    exit
fi
echo "JobID|State|NodeList"
for job in job-*; do echo "${job#job-}|$(cat "$job")|"; done
""",
    "scancel": """
echo "$1" >> cancelled
""",
}


def install(folder: Path, fates: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the commands into `folder` and it into the PATH; the first jobs end with these states, others run.

    While a file `away` lies in the folder, sacct answers with words instead of a table.
    """
    folder.mkdir()
    (folder / "fates").write_text("".join(f"{fate}\n" for fate in fates))
    (folder / "cancelled").touch()
    for name, text in COMMANDS.items():
        home = "" if name == "srun" else f'cd "{folder}" || exit 1'
        (folder / name).write_text(f"#!/bin/sh\n{home}{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
