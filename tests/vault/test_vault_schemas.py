"""What each category must hold: every field that is wrong is named, and no value ever."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.credentials import SecretValue, hidden_field, secret_fields, shown_field
from tbot_core.contracts.setting import DeclaredConfig, boolean, integer, text
from tbot_core.errors import VaultError
from tbot_core.instance.secret_schemas import schemas
from tbot_core.system.secret import Secret
from tbot_core.vault.categories import CATEGORIES
from tbot_core.vault.error_codes import VaultErrorCode
from tbot_core.vault.schemas import (
    FieldLocation,
    check_content,
    content_fields,
    fill_schema,
    merged_content,
    schema_key,
    short_secrets,
    stored_fields,
)

if TYPE_CHECKING:
    from tbot_core.contracts.setting import SettingKind
    from tbot_core.vault.schemas import Schemas

CANARY = "canary-0c4f88aa"


@attrs.frozen(kw_only=True)
class Account:
    """A broker's fields."""

    key: SecretValue = hidden_field(doc="A key.", aliases=("api_key",))
    password: SecretValue | None = hidden_field(doc="A password.", optional=True)
    port: int = shown_field(integer(most=9), default="3", doc="A port.")
    paper: bool = shown_field(boolean(), doc="Whether it is paper.")


MINE: Schemas = {("broker", "mine"): secret_fields(Account), ("smtp", ""): secret_fields(Account)}


def found(values: object, category: str = "broker", **more: Any) -> list[tuple[str, str]]:
    """Code and sentence of everything that is wrong with the content."""
    data = memoryview(json.dumps(values).encode())
    faults = check_content(data, category, "f", MINE, **more)
    assert all(CANARY not in str(it) for it in faults)
    return [(it.code, it.message.partition(": ")[2]) for it in faults]


def test_stored_fields_are_found_in_any_spelling() -> None:
    """By an alias, in any case; what is no field is left out."""
    assert stored_fields({"API_KEY": "k", "port": "1", "other": "x"}, secret_fields(Account)) == {"key", "port"}


@attrs.frozen(kw_only=True)
class Mailbox:
    """Fields that depend on others."""

    user: str = shown_field(text(), default="nobody", doc="A name.")
    sender: str = shown_field(text(pattern=".*@.*|"), default="", doc="An address.", fallback="user")
    token: SecretValue | None = hidden_field(doc="A token.", optional=True)
    folder: str = shown_field(text(pattern=".*"), default="", doc="A folder.", needed_with="token")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"user": "me@here"}, ""),
        ({"sender": "me@here", "user": "me"}, ""),
        ({"sender": "me@here", "token": CANARY, "folder": "in"}, ""),
        ({"user": "me"}, "TB-SEC-078 sender"),
        ({}, "TB-SEC-078 sender"),
        ({"sender": "me@here", "token": CANARY}, "TB-SEC-078 folder"),
    ],
)
def test_a_field_may_depend_on_another(given: dict[str, str], code: str) -> None:
    """One takes the place of another that is empty, if it is allowed there; one is of no use without another."""
    faults = check_content(memoryview(json.dumps(given).encode()), "smtp", "f", {("smtp", ""): secret_fields(Mailbox)})
    number, _, field = code.partition(" ")
    assert [(one.code, f" {field}" in one.message) for one in faults] == ([(number, True)] if code else [])
    if not code:
        values = {name: Secret(value) for name, value in given.items()}
        assert fill_schema(Mailbox, values, FieldLocation("smtp", "f")).sender == "me@here"


def test_content_that_holds_is_silent_and_is_read_into_its_class() -> None:
    """Names in any case or another spelling, numbers and switches as JSON or as text, defaults for what is left out."""
    assert found({"mine": {"KEY": CANARY, "paper": True}}) == []
    assert found({"mine": {"api_key": CANARY, "paper": "no", "port": 9, "password": "p"}}) == []
    fields = {name: Secret(value) for name, value in {"Api_Key": CANARY, "paper": "off", "port": "4"}.items()}
    made = fill_schema(Account, fields, FieldLocation("broker", "f", "mine"))
    assert (made.key.reveal(), made.password, made.port, made.paper) == (CANARY, None, 4, False)
    assert CANARY not in repr(made)
    assert [value.is_held for value in fields.values()] == [True, False, False]


def test_two_sections_of_one_plugin_are_refused_with_both_names() -> None:
    """In other spelling, whether their fields are known or not; two users may differ in case alone."""
    assert found({"MINE": {"key": CANARY}, "mine": {"key": CANARY}}) == [
        ("TB-SEC-069", "its file f has two sections of one plugin in other spelling: MINE and mine.")
    ]
    assert found({"Other": {"x": CANARY}, "oTHER": {"x": CANARY}}, "alert")[0][0] == "TB-SEC-069"
    assert found({"Ann": {"hash": CANARY}, "ann": {"hash": CANARY}}, "login") == []


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        (
            {"key": CANARY, "paper": 1, "colour": CANARY},
            [("TB-SEC-077", "its file f has an unknown field mine.colour; known: key, password, port, paper.")],
        ),
        (
            {"paper": True},
            [("TB-SEC-078", "its file f lacks the field mine.key: one line of text.")],
        ),
        (
            {"key": f"{CANARY}\n", "paper": CANARY, "port": 10},
            [
                ("TB-SEC-079", "field mine.key of its file f is not one line of text."),
                ("TB-SEC-079", "field mine.port of its file f is not a whole number from 0 to 9."),
                ("TB-SEC-079", "field mine.paper of its file f is not true or false."),
            ],
        ),
        (
            {"key": CANARY, "api_key": CANARY, "paper": True},
            [("TB-SEC-073", "the content of its file f names a field twice.")],
        ),
        ({"key": ""}, [("TB-SEC-076", "field key of its file f is empty.")]),
    ],
)
def test_every_fault_is_named_at_once(values: object, faults: list[tuple[str, str]]) -> None:
    """Category, file, field and what is allowed; never the value."""
    assert found({"mine": values}) == faults


def test_a_name_that_is_long_or_no_text_is_cut() -> None:
    """A field's name comes from the file: it breaks no line of a log."""
    (one,) = found({"key": CANARY, "paper": True, "a\nb" + "c" * 200: "x"}, "smtp")
    assert r"has an unknown field 'a\nbccc" in one[1]
    assert len(one[1]) < 250


def test_only_what_a_class_is_known_for_is_judged() -> None:
    """Sections of strangers, settings, and sections that are not asked about pass by their shape alone."""
    assert found({"stranger": {"anything": "x"}}) == []
    assert found({"mine": {"x": "y"}, "stranger": {"a": "b"}}, only={"stranger": {}}) == []
    assert len(found({"mine": {"x": "y"}}, only={"mine": {}})) == 3
    assert len(found({"x": "y"}, "smtp", only={"key": CANARY})) == 3
    assert check_content(memoryview(b"SEED=1"), "env_bot", "f", MINE) == ()
    assert found({"mine": 1}) == [("TB-SEC-075", "section mine of its file f is not a JSON object.")]


def test_a_class_without_fields_wants_none() -> None:
    """Nothing is known there, and nothing may stand there."""
    (one,) = check_content(memoryview(b'{"x": "y"}'), "smtp", "f", {("smtp", ""): {}})
    assert one.message.endswith("known: none.")
    assert check_content(memoryview(b"{}"), "smtp", "f", {("smtp", ""): {}}) == ()


def test_a_refusal_names_every_fault_and_forgets_the_values() -> None:
    """What is raised has the code and remedy of the first; no secret is left alive."""
    fields = {"port": Secret(CANARY), "x": Secret(CANARY)}
    with pytest.raises(VaultError) as refused:
        fill_schema(Account, fields, FieldLocation("smtp", "f"))
    assert refused.value.code == VaultErrorCode.CONTENT_UNKNOWN.text
    assert [line[:10] for line in refused.value.message.splitlines()] == [
        f"TB-SEC-0{number}" for number in (77, 78, 79, 78)
    ]
    assert refused.value.remedy == "Correct it with `tbot secrets edit smtp`."
    assert not any(value.is_held for value in fields.values())


def test_the_vault_hands_over_an_object_and_notes_a_refusal(bench: Any) -> None:
    """What is read as a class is audited like any access, a refusal with its code."""
    vault = bench.vault()
    for category in ("broker", "smtp"):
        vault.make_key(category)
    vault.write("broker", b'{"mine": {"key": "k", "paper": "yes"}}')
    assert vault.read_as(Account, "broker", "mine").paper is True
    vault.write("smtp", b'{"key": "k"}')
    with pytest.raises(VaultError, match=r"TB-SEC-078 smtp: its file storage/secrets/smtp_credentials\.json\.enc "):
        vault.read_as(Account, "smtp")
    assert bench.notes.words[-2:] == [("decrypt", "smtp", "ok"), ("deny", "smtp", "TB-SEC-078")]
    assert [it.code for it in vault.verify(MINE)] == ["TB-SEC-078"]
    assert vault.verify() == ()


def test_every_category_that_is_no_settings_has_a_class() -> None:
    """Each JSON category of the contract is judged, by plugin where it has their sections; users share one class."""
    known = schemas()
    assert {category for category, _ in known} == {it.name for it in CATEGORIES.values() if it.shape != "text"}
    assert {section for category, section in known if not CATEGORIES[category].by_plugin} == {""}
    assert {section for category, section in known if category == "broker"} == {"alpaca", "ibkr", "tradier"}
    assert schema_key("login", "ann") == ("login", "")
    assert schema_key("broker", "alpaca") == ("broker", "alpaca")


def test_what_a_plugin_declares_replaces_what_the_core_knows() -> None:
    """By the same declaration; what is only named, and what is no category, is left out."""
    mine = DeclaredConfig(kind="broker", name="alpaca", secrets={"broker": Account, "nothing": Account, "smtp": None})
    assert schemas([mine]) == {**schemas(), ("broker", "alpaca"): secret_fields(Account)}


@pytest.mark.parametrize("place", schemas(), ids="-".join)
def test_each_section_that_the_core_knows_is_sound(place: tuple[str, str]) -> None:
    """No spelling means two fields, every field has its meaning, and every default is allowed."""
    fields = schemas()[place].values()
    words = [word.lower() for it in fields for word in (it.name, *it.aliases)]
    assert len(set(words)) == len(words)
    assert all(it.doc.endswith(".") and it.kind.allowed for it in fields)
    for it in fields:
        if it.default_text is not None and not it.hidden:
            it.kind.parse(it.default_text)


@given(
    st.dictionaries(st.text(min_size=1), st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text()))
)
def test_whatever_stands_there_is_judged(values: dict[str, Any]) -> None:
    """No content of an object makes more than errors of this vault."""
    data = memoryview(json.dumps(values).encode())
    for category in ("smtp", "network", "bot_identity", "acct_api"):
        for error in check_content(data, category, "f", schemas()):
            assert error.code.startswith("TB-SEC-07")


def test_text_is_text() -> None:
    """A value that the class shows is taken from the file as it stands, blanks and all."""

    @attrs.frozen
    class One:
        """One field."""

        a: str = shown_field(text(), doc="A text.")

    fields = content_fields(memoryview(b'{"a": " b "}'), "smtp", "f", None)
    assert fill_schema(One, fields, FieldLocation("smtp", "f")).a == " b "


@pytest.mark.parametrize(
    ("address", "is_allowed"),
    [
        ("https://books.example/api", True),
        ("http://127.0.0.1:8080/api", True),
        ("http://[::1]", True),
        ("http://localhost", True),
        ("http://books.example/api", False),
        ("http://localhost.example/", False),
        ("http://127.0.0.1:80@books.example/", False),
        ("ftp://127.0.0.1", False),
    ],
)
def test_an_address_for_credentials_is_encrypted_or_on_this_machine(address: str, *, is_allowed: bool) -> None:
    """Of every service in the declarations that the core knows, accounting among them."""
    kinds = {it.kind for fields in schemas().values() for it in fields.values() if it.name in {"url", "base_url"}}
    assert accepts(schemas()[schema_key("acct_api", "accounting")]["url"].kind, address) == is_allowed
    assert {accepts(kind, address) for kind in kinds} <= {is_allowed, False}


def accepts(kind: SettingKind[Any], text: str) -> bool:
    """Whether a kind allows a text."""
    try:
        kind.parse(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("category", "values", "names"),
    [
        ("broker", {"mine": {"api_key": "k-12345", "paper": True, "password": CANARY}}, ("mine.key",)),
        ("broker", {"mine": {"KEY": "k-123456", "paper": True, "password": "p"}}, ("mine.password",)),
        ("broker", {"unknown": {"key": "k"}}, ()),
        ("smtp", {"key": "k", "paper": True}, ("key",)),
        ("env", {}, ()),
    ],
)
def test_hidden_fields_with_short_values_are_named(
    category: str, values: dict[str, Any], names: tuple[str, ...]
) -> None:
    """By section and the field's own name; shown fields and sections that are not known do not count."""
    assert short_secrets(memoryview(json.dumps(values).encode()), category, "f", MINE) == names


@pytest.mark.parametrize(
    ("category", "stored", "values", "merged"),
    [
        ("smtp", {"Api_Key": "a", "port": 1}, {"key": "b"}, {"key": "b", "port": 1}),
        (
            "broker",
            {"MINE": {"key": "a", "port": 1}},
            {"mine": {"API_KEY": "b"}},
            {"mine": {"API_KEY": "b", "port": 1}},
        ),
        ("broker", {"other": {"x": 1}}, {"mine": {"key": "b"}}, {"other": {"x": 1}, "mine": {"key": "b"}}),
        ("broker", {"other": {"x": 1, "X": 2}}, {"other": {"x": 3}}, {"other": {"x": 3, "X": 2}}),
        ("login", {"Ann": {"role": "owner"}}, {"ann": {"role": "x"}}, {"Ann": {"role": "owner"}, "ann": {"role": "x"}}),
        ("broker", {"mine": {"key": "a"}}, {"mine": "b"}, {"mine": "b"}),
    ],
)
def test_new_values_replace_their_fields_alone(category: str, stored: Any, values: Any, merged: Any) -> None:
    """In whatever spelling a known field is stored; users' names are as they are spelt."""
    assert merged_content(stored, category, values, MINE) == merged


def test_none_removes_a_field_and_a_section_whose_last_one_it_was() -> None:
    """In whatever spelling it was stored; other fields and sections stay."""
    fields = {("broker", "alpaca"): secret_fields(Account)}
    stored = {"alpaca": {"KEY": "k", "other": "o"}, "else": {"a": "b"}}
    name = next(iter(secret_fields(Account).values())).name
    merged = merged_content(stored, "broker", {"alpaca": {"other": None}, "else": {"a": None}}, fields)
    assert merged == {"alpaca": {"KEY": "k"}}
    assert merged_content({name: "k", "x": "y"}, "smtp", {"x": None}, {}) == {name: "k"}
