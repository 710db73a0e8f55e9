# ruff: noqa: E501 - one case a line
from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp_agent.config.yaml12 import MAX_DEPTH, Mark, Value, YamlError, plain, read


@pytest.mark.parametrize(
    "text",
    ["off", "on", "yes", "no", "y", "n", "64512:10", "1:30:15", "fd00::4", "::1", "1_000", "0b11", "2001-01-01", "12e", "+",
     "-", ".", "1.2.3", "10.0.0.0/8", "0o8", "0xg", "- -", "=", "NO", "tRUE", "nULL", "1e", "0x", ".in", "1" * 100],
)  # fmt: skip
def test_what_yaml_1_1_mistakes_for_something_else_is_text(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("~", None), ("null", None), ("true", True), ("FALSE", False), ("012", 12), ("0o14", 12), ("0xC", 12),
     ("-12", -12), ("+12", 12), ("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), (".inf", math.inf), ("-.INF", -math.inf)],
)  # fmt: skip
def test_the_core_schema(text: str, value: Value) -> None:
    found = plain(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_a_number_of_its_own() -> None:
    assert math.isnan(float(str(plain(".NaN"))))


def test_quoted_and_tagged_scalars() -> None:
    text = "a: '12'\nb: \"true\"\nc: !!str 12\nd: !!int '12'\ne: ! 12\nf: |\n  12\ng: !!float 12\nh: !!null ''\n"
    assert read(text).value == {
        "a": "12",
        "b": "true",
        "c": "12",
        "d": 12,
        "e": "12",
        "f": "12\n",
        "g": 12.0,
        "h": None,
    }


def test_every_value_knows_its_place() -> None:
    document = read("a: 1\nb:\n- {c: x}\n- y\n")
    assert document.mark(("a",)) == Mark(1, 1)
    assert document.mark(("b", 0, "c")) == Mark(3, 4)
    assert document.mark(("b", 1)) == Mark(4, 3)
    assert document.mark(("b", 1, "none", 3)) == Mark(4, 3)


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' stands here twice, first in line 1", 3),
        ("b: {a: 1, a: 2}", "stands here twice", 1),
        ("a: 1\n<<: {b: 2}", "merge keys", 2),
        ("a: 1\n---\nb: 1", "a second document", 2),
        ("a: !!python/object:os.system x", "is not part of YAML 1.2's core schema", 1),
        ("a: !x [1]", "is not part of YAML 1.2's core schema", 1),
        ("a: !!int x", "'x' is no int", 1),
        ("a: !!bool 1", "'1' is no bool", 1),
        ("a: !!int true", "'true' is no int", 1),
        ("? [a]\n: 1", "a key must be a plain text", 1),
        ("a: &x b\n*x : 1", "a key must be a plain text", 2),
        ("a: *none", "has no finished anchor", 1),
        ("a: &a [*a]", "has no finished anchor", 1),
        ("a: [1", "did not find expected", 2),
        ("a:\n\t- b", "cannot start any token", 2),
        ("a: '", "found unexpected end of stream", 1),
        ("[" * (MAX_DEPTH + 1), "nested deeper", 1),
    ],
)
def test_what_is_refused_says_why_and_where(text: str, reason: str, line: int) -> None:
    with pytest.raises(YamlError) as caught:
        read(text)
    assert reason in caught.value.reason
    assert caught.value.mark is not None
    assert abs(caught.value.mark.line - line) <= 1


def test_aliases_work_and_share_their_value() -> None:
    assert read("a: &p {x: 1}\nb: [*p, *p]").value == {"a": {"x": 1}, "b": [{"x": 1}, {"x": 1}]}


def test_a_billion_laughs_are_not_laughed() -> None:
    lines = ["a0: &a0 [l, o, l]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(YamlError, match="aliases counted as often as they are used"):
        read("\n".join(lines))


def test_nothing_is_not_the_same_as_null() -> None:
    assert read("").empty
    assert read("# only words\n").empty
    assert not read("null").empty


@given(st.text())
def test_no_text_raises_anything_but_the_one_error(text: str) -> None:
    try:
        read(text)
    except YamlError as error:
        assert error.reason  # noqa: PT017 - any text may be refused


@given(st.text("[]{}:,-&*!|>'\"#%@` \n\ta1~?", max_size=30))
def test_no_soup_of_indicators_raises_anything_else(text: str) -> None:
    try:
        read(text)
    except YamlError as error:
        assert error.reason  # noqa: PT017 - any text may be refused


words = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]))  # what JSON escapes in one piece
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_json_is_yaml_1_2(value: Value) -> None:
    assert read(json.dumps(value, ensure_ascii=True)).value == value
