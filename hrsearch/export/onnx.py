"""The export `onnx`: one file for onnxruntime, TensorRT, OpenVINO and the like, for images of the deployed size."""

from pathlib import Path
from typing import Any

import numpy

from hrsearch.errors import CandidateFailed
from hrsearch.export.check import images_of, outputs_of
from hrsearch.export.target import ExportFailed, Target, example_of
from hrsearch.export.winner import Winner
from hrsearch.registry import EXPORTS

MODEL = "model.onnx"
USAGE = """\
`model.onnx` takes `image`, float32 ({batch}, 3, {height}, {width}), normalised as said above,
and gives `prediction`; {words}:

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
    fixed_size = True
    tolerance = 1e-4
    outputs = staticmethod(onnx_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write model.onnx, for batches of any size if that computes what the network does, else for one image."""
        from hrsearch.cost.onnx import onnx_of

        path = folder / MODEL
        try:
            path.write_bytes(onnx_of(winner.network, example_of(winner, 2), any_batch=True))
            any_batch = _computes(winner, folder)
        except CandidateFailed:
            any_batch = False
        try:
            if not any_batch:
                path.write_bytes(onnx_of(winner.network, example_of(winner, 1)))
        except CandidateFailed as error:
            raise ExportFailed(f"{winner.trial.name}: {error}") from None
        words = "batches may be of any size" if any_batch else "one image at a time, as its batch is fixed"
        height, width = winner.image
        return USAGE.format(batch="B" if any_batch else 1, height=height, width=width, words=words)


def _computes(winner: Winner, folder: Path) -> bool:
    """Whether the model computes what the network does for another batch than the one that it was traced with."""
    image = images_of((3, 3, *winner.image))
    try:
        output = onnx_outputs(folder, image)["prediction"]
    except Exception:  # onnxruntime has its own kinds
        return False
    own = outputs_of(winner, image)["prediction"]
    same: bool = output.shape == own.shape and numpy.abs(output - own).max() <= Onnx.tolerance * max(
        1.0, abs(own).max()
    )
    return same
