"""JSON Schemas of the files that people write, made from the registries, so that editors complete and check them."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from hrsearch.errors import InputError, suggestion
from hrsearch.registry import BLOCKS, HEADS, LINKS, WORKERS, Registry
from hrsearch.runner import Runner
from hrsearch.space import DEVICES
from hrsearch.task import TASKS
from hrsearch.template import NORMS

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EXPRESSION = {"type": "string", "pattern": r"\$"}

Schema = dict[str, Any]

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema_of(what: str) -> Schema:
    """The schema of a "space" (a network is a space without knobs), a "runner" or a "recipe"; else an InputError."""
    if what not in _SCHEMAS:
        raise InputError(f"schema {what!r} does not exist; {suggestion(what, _SCHEMAS)}")
    return {"$schema": DRAFT, **_SCHEMAS[what]()}


def _runner() -> Schema:
    found = Runner.model_json_schema()
    found["$defs"]["Engine"]["properties"]["kind"]["enum"] = list(WORKERS)
    return {**found, "title": "A way to judge candidates"}


def _recipe() -> Schema:
    """A person's own, or a paper's, which is for a task and says where other families' papers differ."""
    from hrsearch.train.recipe import Recipe, Shipped  # loads torch, which the others do without

    found = Shipped.model_json_schema()
    found["properties"]["families"]["additionalProperties"] = _object(Recipe.model_json_schema()["properties"])
    del found["required"], found["description"]
    return {**found, "title": "A way to train", "dependentRequired": {"families": ["task"]}}


def _space() -> Schema:
    value = {"type": ["number", "string", "boolean"]}
    numbers = {"type": "number"}
    span = _object({"from": numbers, "to": numbers, "step": numbers}, required=["from", "to"])
    knob = {"oneOf": [{"type": "array", "items": value, "minItems": 1}, span]}
    return {
        "title": "A space of networks, or one network",
        **_object(
            {
                "task": {"enum": sorted(TASKS)},
                "known": {"type": ["array", "null"], "items": {"type": "string"}},  # what is left empty is none
                "plugins": {"type": ["array", "null"], "items": {"type": "string"}},
                "runners": _object({device: {"type": ["string", "null"]} for device in DEVICES})
                | {"type": ["object", "null"]},
                "knobs": {"type": "object", "additionalProperties": knob},
                "require": {"type": "array", "items": EXPRESSION},
                "net": _net(),
                "published": {"type": "array", "items": {"type": "object"}},  # a network's: what its paper prints
            },
            required=["net"],
        ),
        "$defs": {
            "blocks": _mapping(BLOCKS),
            **{name: _part(registry) for name, registry in (("link", LINKS), ("head", HEADS))},
            "block": {"anyOf": [{"enum": list(BLOCKS)}, EXPRESSION, _defined("blocks")]},
        },
    }


def _net() -> Schema:
    side = _or_expression({"type": "integer", "minimum": 1})
    heads = _object({task: _defined("head") for task in TASKS})
    net = _object(
        {
            "image": {"oneOf": [side, {"type": "array", "items": side, "minItems": 2, "maxItems": 2}]},
            "blocks": {"type": "object", "additionalProperties": _defined("block")},
            "stages": {"type": "array", "items": _row(), "minItems": 1},
            "head": _defined("head"),
            "heads": heads,
        },
        required=["stages"],
    )
    return {**net, "not": {"required": ["head", "heads"]}}


def _row() -> Schema:
    whole = _or_expression({"type": "integer", "minimum": 1})
    depth = _or_expression({"type": "integer", "minimum": 0})
    named = {"anyOf": [{"type": "string"}, {"type": "null"}, _defined("blocks")]}
    norm = _or_expression({"enum": [*NORMS, None]})
    return _object(
        {
            "when": _or_expression({"type": "boolean"}),
            "link": _defined("link"),
            "channels": _each(whole),
            "stride": whole,
            "depth": _each(depth),
            "block": _each(named),
            "norm": _each(norm),
            "repeat": whole,
        },
        required=["link"],
    )


def _defined(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _part(registry: Registry) -> Schema:
    """A kind, or a mapping of a kind and its options."""
    return {"anyOf": [{"enum": list(registry)}, EXPRESSION, _mapping(registry)]}


def _mapping(registry: Registry) -> Schema:
    """A kind that an expression chooses may have any option of any kind: the loader checks it once it is known."""
    known = [
        _object({"kind": {"const": kind}, **_options(registry.options(kind))}, required=["kind"]) for kind in registry
    ]
    chosen = {"type": "object", "properties": {"kind": EXPRESSION}, "required": ["kind"]}
    return {"anyOf": [*known, chosen]}


def _options(defaults: dict[str, Any]) -> dict[str, Schema]:
    return {name: _option(default) for name, default in defaults.items()}


def _option(default: Any) -> Schema:
    """The type of the default; an option without one, or with none, takes anything."""
    if default is inspect.Parameter.empty or default is None:
        return {}
    if isinstance(default, list | tuple):
        return _or_expression({"type": "array", "default": list(default)})
    return _or_expression({"type": _TYPES[type(default)], "default": default})


def _or_expression(schema: Schema) -> Schema:
    return {"anyOf": [schema, EXPRESSION]}


def _each(schema: Schema) -> Schema:
    """One value for all branches, or a list of one per branch."""
    return {"anyOf": [schema, {"type": "array", "items": schema, "minItems": 1}]}


def _object(properties: dict[str, Schema], required: Iterable[str] = ()) -> Schema:
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


_SCHEMAS: dict[str, Callable[[], Schema]] = {"space": _space, "runner": _runner, "recipe": _recipe}
