"""Names in Python source: which a definition looks up outside of itself, and the imports that bring them."""

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)


def import_lines(imports: Mapping[str, tuple[str, str | None]]) -> str:
    """Import statements as isort sorts them: the standard library's, then others'."""
    whole: set[tuple[str, str]] = set()
    parts: dict[str, set[str]] = {}
    for name, (module, attribute) in imports.items():
        if attribute is None:
            whole.add(
                (module, f"import {module}" if name == module.partition(".")[0] else f"import {module} as {name}")
            )
        else:
            parts.setdefault(module, set()).add(attribute if name == attribute else f"{attribute} as {name}")
    lines = [(module, 0, line) for module, line in whole]
    lines += [
        (module, 1, f"from {module} import {', '.join(sorted(names, key=_kind))}") for module, names in parts.items()
    ]
    sections: list[list[str]] = [[], []]
    for module, _, line in sorted(lines, key=lambda each: (each[1], each[0])):
        sections[module.partition(".")[0] not in sys.stdlib_module_names].append(line)
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def _kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name


def imported(statement: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, tuple[str, str | None]]]:
    """Each name that the statement brings, with its module and what it is called there."""
    for each in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield each.asname or each.name, (statement.module or "", each.name)
        else:
            yield each.asname or each.name.partition(".")[0], (each.name, None)


def free_names(node: ast.AST, hidden: frozenset[str], left_out: Collection[int]) -> Iterator[tuple[str, ast.AST]]:
    """Names that are looked up outside of `node`, in the order of the text."""
    if id(node) in left_out:
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in hidden:
        yield node.id, node
    if isinstance(node, SCOPES):
        yield from _free_names_of_function(node, hidden, left_out)
        return
    if isinstance(node, COMPREHENSIONS):
        hidden |= _stored(node)
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if name in ("annotation", "returns") and isinstance(each, ast.Constant) and str(each.value).isidentifier():
                yield str(each.value), each
            elif isinstance(each, ast.AST):
                yield from free_names(each, hidden, left_out)


def _free_names_of_function(
    node: ast.AST, hidden: frozenset[str], left_out: Collection[int]
) -> Iterator[tuple[str, ast.AST]]:
    parameters = {each.arg for each in ast.walk(node) if isinstance(each, ast.arg)}
    inside = hidden | parameters | _stored(node)
    body: Any = getattr(node, "body", [])
    body = body if isinstance(body, list) else [body]
    returns = getattr(node, "returns", None)
    if isinstance(returns, ast.Constant) and isinstance(returns.value, str) and returns.value.isidentifier():
        yield returns.value, returns
        returns = None
    for each in [*getattr(node, "decorator_list", ()), getattr(node, "args", None), returns]:
        if each is not None:
            yield from free_names(each, hidden, left_out)
    for each in body:
        yield from free_names(each, inside, left_out)


def _stored(node: ast.AST) -> frozenset[str]:
    """Names that are given a value inside."""
    return frozenset(
        each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)
    )
