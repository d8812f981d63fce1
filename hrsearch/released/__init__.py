"""Weights that the authors of published networks released, under our names. A family's names are a module."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hrsearch.build import Network
from hrsearch.errors import InputError, suggestion
from hrsearch.released.family import Family
from hrsearch.released.hrformer import HRFORMER
from hrsearch.released.hrnet import HRNET
from hrsearch.released.hrvit import HRVIT

FAMILIES: dict[str, Family] = {"hrformer": HRFORMER, "hrnet": HRNET, "hrvit": HRVIT}


def load_released(
    network: Network, state_dict: Mapping[str, Any], family: str, *, new_classes: bool = False
) -> list[str]:
    """Load released weights of a family ("hrformer", "hrnet", "hrvit") into a network of the same architecture.

    Delivers our keys of the tensors that were loaded. A head of another kind than the file's keeps its weights, and
    so do, with `new_classes`, the layers that deliver the classes. Position biases of windows of another size are
    resized. Otherwise any key that is missing or left over and any shape that differs is an InputError that names it;
    then nothing is loaded.
    """
    names = released_names(network, family)
    ours = network.state_dict()
    table = FAMILIES[family]
    theirs = table.read(_plain(state_dict), {name: ours[key] for key, name in names.items()})
    if not _heads_agree(network, theirs, names, table):
        names = {key: name for key, name in names.items() if not key.startswith("head.")}
        theirs = {name: value for name, value in theirs.items() if not re.match(table.head, name)}
    if new_classes:
        kept = [names.pop(key) for key in list(names) if re.match(r"head\.(aux_)?classifier\.", key)]
        theirs = {name: value for name, value in theirs.items() if name not in kept}
    # Old files do not say how many batches their batch norms have seen.
    names = {key: name for key, name in names.items() if name in theirs or not key.endswith("num_batches_tracked")}
    _require_equal(family, {name: ours[key] for key, name in names.items()}, theirs)
    network.load_state_dict({key: theirs[name] for key, name in names.items()}, strict=False)
    return list(names)


def released_names(network: Network, family: str) -> dict[str, str]:
    """What the family's authors call the tensors of our network: our keys and theirs.

    A head of a kind that they do not have is left out; any other part that they do not have is an InputError.
    """
    if family not in FAMILIES:
        raise InputError(f"family {family!r} does not exist; {suggestion(family, FAMILIES)}")
    table = FAMILIES[family]
    whole = network.arch.head.kind in table.heads
    name_of = table.name_of(network.arch)
    names = {key: name_of(key) for key in network.state_dict() if whole or not key.startswith("head.")}
    unnamed = [key for key, name in names.items() if name is None]
    if unnamed:
        raise InputError(f"the released {family} networks have nothing like {unnamed[0]} of this one")
    return {key: name for key, name in names.items() if name is not None}


def _plain(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a file without what wraps them: the entry that holds them, and prefixes of their names."""
    inner = next((state_dict[name] for name in ("state_dict", "model") if name in state_dict), state_dict)
    if not isinstance(inner, Mapping) or not all(isinstance(value, Tensor) for value in inner.values()):
        raise InputError("weights: expected a mapping of names to tensors, or one under 'state_dict' or 'model'")
    plain = {re.sub(r"^(module\.|model\.|backbone\.)+", "", name): value for name, value in inner.items()}
    return {name: value for name, value in plain.items() if not name.startswith("loss.")}


def _heads_agree(network: Network, theirs: Mapping[str, Tensor], names: Mapping[str, str], table: Family) -> bool:
    """Whether the file's head, if it has one, is of the network's kind."""
    head = {name for name in theirs if re.match(table.head, name)}
    wanted = {name for key, name in names.items() if key.startswith("head.")}
    return network.arch.head.kind in table.heads and (not head or bool(head & wanted))


def _require_equal(family: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    problems = [f"missing {key} {_shape(value)}" for key, value in ours.items() if key not in theirs]
    problems += [f"unexpected {key} {_shape(value)}" for key, value in theirs.items() if key not in ours]
    problems += [
        f"{key} has shape {_shape(theirs[key])}, the network needs {_shape(value)}"
        for key, value in ours.items()
        if key in theirs and theirs[key].shape != value.shape
    ]
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise InputError(f"weights do not fit this {family} network: {'; '.join(problems[:5])}{more}")


def _shape(value: Tensor) -> str:
    return str(list(value.shape))
