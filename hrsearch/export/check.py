"""`check.py` of an exported folder: it holds what the files compute against what the network did at the export."""

import inspect
import runpy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrsearch.export.target import ExportFailed, Target
from hrsearch.export.winner import Winner

CHECK, REFERENCE = "check.py", "check.npz"
BATCH = 2
SMALL = (96, 128)  # height, width where the formats take any size
KEPT = 1 << 16  # values of each output that the reference keeps at most
FILE = '''\
"""Whether the files here compute what the network did when it was exported: python check.py

Exit code 1 where one does not. `check.npz` holds the network's own outputs, of large ones every so manyeth value.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

FOLDER = Path(__file__).resolve().parent
SHAPE = {shape}  # of the images: random, but the same everywhere
KEPT = {kept}


def thinned(array: Any) -> Any:
    """Evenly spread values, at most KEPT."""
    return numpy.ascontiguousarray(array).reshape(-1)[:: (-(-array.size // KEPT)) | 1]


{functions}


# For each format what computes, and how far off it may be, in units of the largest value, but of 1 at least.
CHECKS = {{
{checks}
}}


def difference(outputs: dict[str, Any], reference: Any) -> float:
    """The largest difference of any output."""
    found = 0.0
    for name, output in outputs.items():
        own = reference[name]
        if list(output.shape) != list(reference[f"{{name}}_shape"]):
            raise ValueError(f"{{name}} is of shape {{output.shape}}, not {{tuple(reference[f'{{name}}_shape'])}}")
        found = numpy.maximum(found, numpy.abs(thinned(output) - own).max() / max(1.0, numpy.abs(own).max()))
    return float(found)


def told(name: str) -> tuple[bool, str]:
    """Whether a format is right, and a line about it."""
    outputs, tolerance = CHECKS[name]
    image = numpy.random.RandomState(0).random_sample(SHAPE).astype(numpy.float32) * 2 - 1
    try:
        off = difference(outputs(FOLDER, image), numpy.load(FOLDER / "check.npz"))
    except ImportError as error:
        return True, f"{{name}}: not checked, as {{error.name or error}} is missing"
    except Exception as error:
        return False, f"{{name}}: FAILED, {{type(error).__name__}}: {{' '.join(str(error).split())}}"
    how = f"largest difference {{off:.1e}}, {{tolerance:.0e}} allowed"
    return off <= tolerance, f"{{name}}: {{'ok' if off <= tolerance else 'FAILED'}}, {{how}}"


def main() -> int:
    """Check every format; the exit code."""
    sys.path.insert(0, str(FOLDER))
    right = True
    for name in CHECKS:
        if name != "native":
            sys.modules["hrsearch"] = None  # the others must do without
        fine, line = told(name)
        print(line, flush=True)
        right = right and fine
    return 0 if right else 1


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main())
'''


def write_check(winner: Winner, targets: Mapping[str, Target], folder: Path) -> None:
    """Write check.py and what the network computes; the native format comes first, as the others must do without us."""
    fixed = any(target.fixed_size for target in targets.values())
    shape = (BATCH, 3, *(winner.image if fixed else SMALL))
    checks = [f'    "{name}": ({_function(each).__name__}, {each.tolerance:g}),' for name, each in targets.items()]
    text = FILE.format(
        shape=shape,
        kept=KEPT,
        functions="\n\n".join(inspect.getsource(_function(each)) for each in targets.values()).rstrip(),
        checks="\n".join(checks),
    )
    (folder / CHECK).write_text(text, encoding="utf-8")
    _write_reference(winner, shape, runpy.run_path(str(folder / CHECK))["thinned"], folder / REFERENCE)


def run_check(folder: Path, fresh: bool) -> list[str]:
    """What the folder's check says, a line per format; an ExportFailed if something is wrong.

    `fresh` runs it in a process of its own, as a person would; else in this one, which has torch loaded already.
    """
    if not fresh:
        fine, line = runpy.run_path(str(folder / CHECK))["told"]("native")
        lines, code = [line], 0 if fine else 1
    else:
        done = subprocess.run(
            [sys.executable, CHECK], cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8"
        )
        lines, code = done.stdout.splitlines(), done.returncode
        if code and not lines:
            lines = done.stderr.strip().splitlines()[-1:]
    if code:
        failed = [line for line in lines if "FAILED" in line] or lines
        raise ExportFailed(f"the export does not pass its check; {'; '.join(failed)}")
    return lines


def images_of(shape: tuple[int, ...]) -> Any:
    """The images that check.py gives to every file."""
    import numpy

    return numpy.random.RandomState(0).random_sample(shape).astype(numpy.float32) * 2 - 1


def outputs_of(winner: Winner, image: Any) -> dict[str, Any]:
    """What the network itself computes."""
    import torch

    with torch.inference_mode():
        images = torch.from_numpy(image)
        prediction, maps = winner.network(images), winner.network.pyramid(images)
    return {"prediction": prediction.numpy()} | {f"map{index}": each.numpy() for index, each in enumerate(maps)}


def _write_reference(winner: Winner, shape: tuple[int, ...], thinned: Any, path: Path) -> None:
    import numpy

    outputs = outputs_of(winner, images_of(shape))
    arrays: dict[str, Any] = {name: thinned(each) for name, each in outputs.items()}
    arrays |= {f"{name}_shape": numpy.array(each.shape) for name, each in outputs.items()}
    numpy.savez_compressed(path, **arrays)


def _function(target: Target) -> Any:
    return type(target).outputs
