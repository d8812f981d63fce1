"""The export `onnx`: one file for onnxruntime, TensorRT, OpenVINO and the like, for images of the deployed size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hrsearch.errors import CandidateFailed
from hrsearch.export.target import ExportFailed, Target, example_of
from hrsearch.export.winner import Winner
from hrsearch.registry import EXPORTS

MODEL = "model.onnx"
USAGE = """\
`model.onnx` takes `image`, float32 ({batch}, 3, {height}, {width}), and gives `prediction`; {words}:

```python
import numpy
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
(prediction,) = session.run(None, {{"image": numpy.zeros((1, 3, {height}, {width}), numpy.float32)}})
```
"""


def onnx_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What model.onnx computes; image by image where its batch is fixed."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    fixed = isinstance(session.get_inputs()[0].shape[0], int)
    batches = numpy.split(image, len(image)) if fixed else [image]
    return {"prediction": numpy.concatenate([session.run(None, {"image": each})[0] for each in batches])}


@EXPORTS.add("onnx")
class Onnx(Target):
    """ONNX, for batches of any size where that can be exported."""

    needs = ("onnx", "onnxruntime", "onnxscript")
    tolerance = 1e-4
    outputs = staticmethod(onnx_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write model.onnx, for any batch where an exporter can, else for one image."""
        reasons = []
        for dynamic, data in _attempts(winner):
            if isinstance(data, CandidateFailed):
                reasons.append(str(data))
                continue
            (folder / MODEL).write_bytes(data)
            if not dynamic or _is_right(winner, folder):
                words = "batches may be of any size" if dynamic else "one image at a time, as its batch is fixed"
                height, width = winner.image
                return USAGE.format(batch="B" if dynamic else 1, height=height, width=width, words=words)
        raise ExportFailed(f"{winner.trial.name}: {reasons[-1]}")


def _attempts(winner: Winner) -> Iterator[tuple[bool, bytes | CandidateFailed]]:
    """Models by either exporter for any batch, then for one image: whether the batch is free, and the model."""
    from hrsearch.cost.onnx import onnx_of

    for dynamic in (True, False):
        try:
            yield dynamic, onnx_of(winner.network, example_of(winner, 2 if dynamic else 1), dynamic=dynamic)
        except CandidateFailed as error:
            yield dynamic, error
