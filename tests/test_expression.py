import pytest
from hypothesis import given
from hypothesis import strategies as st

from hrsearch.expression import ExpressionError, evaluate, names_in

KNOBS = {"a": 3, "b": 4, "kind": "conv", "wide": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$a", 3),
        ("$a*2 + 1", 7),
        ("$b // $a", 1),
        ("-$a % 2", 1),
        ("$a < $b <= 4", True),
        ("$kind == 'conv' and not $wide", False),
        ("$kind != 'conv' or $a > 2", True),
        ("$wide == true", True),
        ("$a * 0.5", 1.5),
    ],
)
def test_value(text: str, value: object) -> None:
    assert evaluate(text, KNOBS.__getitem__) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$a +", "cannot be read"),
        ("a + $a", "a knob is written $a"),
        ("$a ** 99", "not allowed"),
        ("$a.real", "not allowed"),
        ("__import__('os').system('true $a')", "not allowed"),
        ("[$a for x in $b]", "not allowed"),
        ("$kind * 9", "no number"),
        ("$a // 0", "cannot be computed"),
        ("$kind < $a", "cannot be computed"),
        ("(" * 500 + "$a", "cannot be read"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, words: str) -> None:
    with pytest.raises(ExpressionError) as error:
        evaluate(text, KNOBS.__getitem__)
    assert words in str(error.value)


def test_a_knob_behind_a_decision_is_not_read() -> None:
    read = []

    def reading(name: str) -> object:
        read.append(name)
        return KNOBS[name]

    assert evaluate("$a == 3 or $b == 4", reading) is True
    assert read == ["a"]


def test_names() -> None:
    assert names_in("$b + $a * $b") == ("b", "a")


@given(st.integers(-50, 50), st.integers(-50, 50), st.sampled_from(["+", "-", "*", "<", ">=", "=="]))
def test_agrees_with_python(a: int, b: int, operator: str) -> None:
    assert evaluate(f"$x {operator} $y", {"x": a, "y": b}.__getitem__) == eval(f"a {operator} b")
