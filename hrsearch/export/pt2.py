"""The export `pt2`: torch's own exported program, which runs without the code of the network."""

import copy
import warnings
from pathlib import Path
from typing import Any

from hrsearch.export.target import ExportFailed, Target, example_of
from hrsearch.export.winner import Winner
from hrsearch.registry import EXPORTS

MODEL = "model.pt2"
USAGE = """\
`model.pt2` is the network as `torch.export` saves it; {words}, each image {height} x {width}:

```python
import torch

network = torch.export.load("model.pt2").module()
with torch.inference_mode():
    prediction = network(torch.zeros(1, 3, {height}, {width}))
```
"""


def pt2_outputs(folder: Path, image: Any) -> dict[str, Any]:
    """What model.pt2 computes; image by image where its batch is fixed."""
    import torch

    program = torch.export.load(folder / "model.pt2")
    network, fixed = program.module(), not program.range_constraints
    with torch.inference_mode():
        batches = torch.from_numpy(image).chunk(len(image) if fixed else 1)
        return {"prediction": torch.cat([network(each) for each in batches]).numpy()}


@EXPORTS.add("pt2")
class Program(Target):
    """`torch.export`, for batches of any size where the network can be exported so."""

    fixed_size = True
    outputs = staticmethod(pt2_outputs)

    def write(self, winner: Winner, folder: Path) -> str:
        """Write model.pt2, for any batch if torch can, else for one image."""
        import torch

        network, reason = copy.deepcopy(winner.network), ""
        for dynamic in (True, False):
            shapes = {"image": {0: torch.export.Dim("batch")}} if dynamic else None
            try:
                program = torch.export.export(
                    network, (example_of(winner, 2 if dynamic else 1),), dynamic_shapes=shapes
                )
            except Exception as error:  # torch raises its own kinds, and plain ones from inside of a network
                reason = str(error).strip().partition("\n")[0]
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of weights that are not contiguous: they are saved as they are
                torch.export.save(program, folder / MODEL)
            words = "batches may be of any size" if dynamic else "one image at a time, as its batch is fixed"
            return USAGE.format(words=words, height=winner.image[0], width=winner.image[1])
        raise ExportFailed(f"{winner.trial.name}: torch.export cannot export it: {reason}")
