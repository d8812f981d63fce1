"""What an export starts from: a trial of a study, and the network that the study has trained of it."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hrsearch.arch import Arch
from hrsearch.candidate import confirmed_weights, weights_path
from hrsearch.errors import InputError
from hrsearch.plugins import load_plugins
from hrsearch.runner import Measure
from hrsearch.study import Record, Trial
from hrsearch.trust.confirmed import confirmation_of

if TYPE_CHECKING:
    from hrsearch.build import Network


MARK = "numbers.json"  # by which an export is known again
KEPT = "a study keeps those of its front, where they were trained; a copy of its journal has none"


@dataclass(frozen=True)
class Winner:
    """A trial that is exported."""

    record: Record
    trial: Trial
    trained: Path | None = None  # weights of a long training

    @property
    def title(self) -> str:
        """What a person calls it, on one line."""
        return " ".join(f"{self.trial.name} of study {self.record.name}".split())

    @property
    def title_in_code(self) -> str:
        """The same, harmless in a string of Python."""
        return re.sub(r"[^\w .,:/()+-]", "_", self.title)

    @property
    def identifier(self) -> str:
        """The same as a name in Python: hrvit_b1, hrvit_trial_17."""
        known = self.trial.attributes.get("known")
        return re.sub(r"\W+", "_", str(known) if known else f"{self.record.name}_{self.trial.name}", flags=re.ASCII)

    @cached_property
    def arch(self) -> Arch:
        """Its architecture."""
        return Arch.from_dict(self.trial.attributes["arch"])

    @property
    def classes(self) -> int:
        """How many classes its head tells apart."""
        classes = self.record.attributes.get("classes") or ()
        return classes if isinstance(classes, int) else len(classes)

    @property
    def image(self) -> tuple[int, int]:
        """Height and width that it is deployed at, pixels: those that it was timed at, where it was."""
        timed = (self.trial.attributes.get("latency") or {}).get("image")
        usual = self.record.attributes.get("runner", {}).get("measure", {}).get("image") or Measure().image
        height, width = timed or self.arch.image or usual
        return height, width

    @property
    def weights(self) -> Path | None:
        """The file of the weights, where the study has kept them: of the best seed where the score is confirmed."""
        if self.trained:
            return self.trained
        folder, number = self.record.folder, self.trial.number
        paths = [weights_path(folder, number)]
        if "seeds" in (self.trial.attributes.get("score") or {}):
            paths = [confirmed_weights(folder, number, confirmation_of(self.record)["times"]), *paths]
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def normalisation(self) -> dict[str, list[float]] | None:
        """Mean and deviation of each channel, of pixels in 0..1, by which the images were normalised that its weights
        were trained on; None where there are no weights, or those of an earlier version, which do not say."""
        from hrsearch.proxy.checkpoint import normalisation_of

        return normalisation_of(self.weights) if self.weights else None

    @property
    def plugins(self) -> list[Path]:
        """The files of code that the network needs; one that is gone is an InputError."""
        paths = [Path(path) for path in self.record.attributes.get("plugins") or ()]
        for path in paths:
            if not path.is_file():
                raise InputError(f"plug-in {path}: no such file any more; the network cannot be built without it")
        return paths

    @cached_property
    def network(self) -> "Network":
        """The network with its weights, in eval mode; an InputError where the study has kept none."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from hrsearch.build import build

        if self.weights is None:
            raise InputError(f"{self.trial.name}: the study has kept no weights of it")
        load_plugins(self.plugins)
        network = build(self.arch, self.classes)
        try:
            network.load_state_dict(load_file(self.weights))
        except SafetensorError as error:
            raise InputError(f"{self.weights}: cannot be read ({error}); export another network") from None
        return network.eval().requires_grad_(False)
