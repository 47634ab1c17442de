"""The reader of JSON: whatever cannot be read is one error, which quotes nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tbot_core.model import json_document
from tbot_core.testing.canaries import canary, shows


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 200_000,
        "[" * 200_000,
        '{"a":' * 200_000,
        "[" * 101 + "]" * 101,
        '{"a":[' * 51 + "]}" * 51,
        '{"a": ' + "9" * 5000 + "}",
        "",
        "{",
        b"\xff",
        "\ufeff{}",
    ],
    ids=["deep bytes", "deep", "objects", "101", "mixed", "digits", "nothing", "open", "not text", "mark"],
)
def test_what_cannot_be_read_is_one_error(text: str | bytes) -> None:
    """Nested without end, a number of thousands of digits, no JSON, no UTF-8: a ValueError that says which."""
    with pytest.raises(json_document.InvalidJson, match=r"\w{4}"):
        json_document.parse_json(text)


def test_what_cannot_be_read_is_not_quoted() -> None:
    """Neither the sentence nor what a traceback shows of it holds a word of the document."""
    with pytest.raises(json_document.InvalidJson) as caught:
        json_document.parse_json(f'{{"key": "{canary("broker")}", }}')
    assert not shows(str(caught.value))
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "value",
    [[], {"a": [1, 2.5, None, True, "\U0001f600"]}, [[] for _ in range(1000)], json.loads("[" * 100 + "]" * 100)],
    ids=["empty", "kinds", "wide", "100 levels"],
)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    """From text as from bytes, wide or a hundred levels deep."""
    text = json.dumps(value)
    assert json_document.parse_json(text) == json_document.parse_json(text.encode()) == value


def test_objects_are_made_as_the_caller_says() -> None:
    """Pairs come in order, those that are spelled twice too."""
    assert json_document.parse_json('{"a": 1, "a": 2}', lambda items: {"all": list(items)}) == {
        "all": [("a", 1), ("a", 2)]
    }


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (r'{"a": {"b": "\ud800"}, "c": "\ud83d\ude00"}', ["a.b"]),
        (r'{"a": [{"b": "x"}, {"b": "\udfff"}], "c": ["\uD8aa", 1]}', ["a.b", "c"]),
        (r'{"a": {"\ud800": "x"}}', ["a"]),
        (r'{"\ud800": "x"}', [""]),
        ('{"a": "\\\\ud800"}', []),
    ],
)
def test_half_a_pair_is_found_with_its_place(text: str, places: list[str]) -> None:
    """Values by the names that lead there, names by what holds them; whole pairs are text like any other."""
    assert list(json_document.invalid_utf8_places(json_document.parse_json(text))) == places
