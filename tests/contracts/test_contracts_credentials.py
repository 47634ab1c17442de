"""How a category of secrets says what it holds."""

from __future__ import annotations

import attrs
import pytest

from tbot_core.contracts.credentials import SecretValue, hidden_field, list_of, secret_fields, shown_field
from tbot_core.contracts.setting import integer, text


@attrs.frozen(kw_only=True)
class Sample:
    """Something of each sort, and a field that is not declared."""

    host: str = shown_field(text(), doc="A host.", aliases=("server",))
    port: int = shown_field(integer(), default="25", doc="A port.")
    key: SecretValue = hidden_field(doc="A key.", aliases=("token",))
    password: SecretValue | None = hidden_field(doc="A password.", optional=True)
    named: str = shown_field(text(), default="x", doc="One by another name.", name="NAMED_SO")
    own: int = 3


def test_a_class_says_what_must_be_given() -> None:
    """Every declared field has its entry, in order and by its name; a default makes it optional."""
    found = secret_fields(Sample)
    assert [(it.name, it.required, it.hidden) for it in found.values()] == [
        ("host", True, False),
        ("port", False, False),
        ("key", True, True),
        ("password", False, True),
        ("NAMED_SO", False, False),
    ]
    assert list(found) == ["host", "port", "key", "password", "named"]


def test_defaults_hold_where_an_author_makes_one() -> None:
    """An object made by hand has the typed default of each field that may be left out."""

    class Value:
        def reveal(self) -> str:
            return "x"

        def wipe(self) -> None:
            """Nothing is held."""

    made = Sample(host="a", key=Value())
    assert (made.port, made.password, made.named) == (25, None, "x")


def test_a_default_must_be_allowed() -> None:
    """A slip of a plugin's author shows when the class is made."""
    with pytest.raises(ValueError, match="none"):
        shown_field(integer(), default="none", doc="A number.")


@pytest.mark.parametrize(
    ("written", "read"),
    [("", ()), ("a", ("a",)), ("a, b c ,d", ("a", "b c", "d")), ('["a", "b"]', ("a", "b")), ("[]", ())],
)
def test_several_are_read_from_text_and_from_a_list(written: str, read: tuple[str, ...]) -> None:
    """Commas or JSON, and what is shown is read again as the same."""
    kind = list_of("names")
    assert kind.parse(written) == read
    assert kind.parse(kind.show(read)) == read


@pytest.mark.parametrize("written", ["a,,b", "a\nb", "[1]", '["a,b"]', "[", '[" a"]', ","])
def test_what_is_no_list_is_refused(written: str) -> None:
    """Nothing empty, no numbers, no line breaks."""
    with pytest.raises(ValueError, match=r"list|invalid JSON"):
        list_of("names").parse(written)


def test_a_hidden_value_may_have_a_kind_of_its_own() -> None:
    """It is judged by it, and described by it."""

    @attrs.frozen(kw_only=True)
    class Hook:
        url: SecretValue = hidden_field(text(pattern="https://.+", allowed="an address"), doc="An address.")

    (found,) = secret_fields(Hook).values()
    assert (found.hidden, found.kind.allowed) == (True, "an address")
    with pytest.raises(ValueError, match="http:"):
        found.kind.parse("http://x")


def test_each_of_several_may_have_to_match() -> None:
    """What is allowed can be described in other words than the plural."""
    kind = list_of("numbers", pattern="[0-9]+", allowed="numbers as in 12")
    assert kind.allowed == "numbers as in 12, separated by commas or as a list"
    assert kind.parse("1, 22") == ("1", "22")
    with pytest.raises(ValueError, match="list of text"):
        kind.parse("1,b")
