"""The `$` expressions of a space: knobs, numbers, strings, arithmetic, comparison and logic; never `eval`."""

import ast
import operator
import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from hrsearch.arch import Value

Read = Callable[[str], Any]

_PREFIX = "__knob_"  # nothing that a person writes
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.Not: operator.not_}
_LANGUAGE = "expressions know $knobs, numbers, strings, true and false, + - * // %, < <= > >= == !=, and or not"


class ExpressionError(ValueError):
    """An expression that cannot be read or computed; the caller adds where it stands."""


def is_expression(value: object) -> bool:
    """Whether a YAML value is an expression: text with a `$`."""
    return isinstance(value, str) and "$" in value


def names_in(text: str) -> tuple[str, ...]:
    """The knobs that an expression mentions, in order, without repeats."""
    return tuple(dict.fromkeys(re.findall(r"\$(\w+)", text)))


def evaluate(text: str, read: Read) -> Value:
    """The value of an expression; `read` gives the value of a knob and is called only for knobs that matter."""
    tree = _parsed(text)
    try:
        result: Value = _value(tree.body, read)
    except (TypeError, ZeroDivisionError, OverflowError) as error:
        raise ExpressionError(f"{text!r} cannot be computed ({error})") from None
    return result


@cache
def _parsed(text: str) -> ast.Expression:
    try:
        return ast.parse(re.sub(r"\$(?=\w)", _PREFIX, text.strip()), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{text!r} cannot be read; {_LANGUAGE}") from None


def _value(node: ast.expr, read: Read) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() as value):
            return value
        case ast.Name(id=name):
            return _name(name, read)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, read))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_number(_value(left, read)), _number(_value(right, read)))
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARE for op in ops):
            return _compared(left, ops, comparators, read)
        case ast.BoolOp(op=op, values=values):
            return _logic(isinstance(op, ast.And), values, read)
    raise ExpressionError(f"{ast.unparse(node).replace(_PREFIX, '$')!r} is not allowed; {_LANGUAGE}")


def _name(name: str, read: Read) -> Any:
    if name.startswith(_PREFIX):
        return read(name.removeprefix(_PREFIX))
    if name in ("true", "false"):
        return name == "true"
    raise ExpressionError(f"{name!r} is no knob; a knob is written ${name}, a text in quotes")


def _number(value: Any) -> Any:
    # Text times a number is legal Python and can fill the memory.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _compared(left: ast.expr, ops: Sequence[ast.cmpop], comparators: Sequence[ast.expr], read: Read) -> bool:
    values = [_value(node, read) for node in (left, *comparators)]
    return all(_COMPARE[type(op)](values[i], values[i + 1]) for i, op in enumerate(ops))


def _logic(conjunction: bool, values: Sequence[ast.expr], read: Read) -> bool:
    # Stops at the first value that decides, so that a knob behind it stays undrawn.
    for node in values:
        if bool(_value(node, read)) is not conjunction:
            return not conjunction
    return conjunction
