"""The kinds of values and how settings are declared."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbot_core.contracts.setting import (
    SettingKind,
    boolean,
    choice,
    clock_time,
    count_of,
    declarations,
    duration,
    fraction,
    integer,
    minutes,
    money,
    names,
    number,
    optional,
    path,
    percent,
    plain_decimal,
    plugin_name,
    setting,
    text,
    weekdays,
    weights,
)
from tbot_core.model.clock import exchange_zone

D = Decimal

READ: list[tuple[SettingKind[Any], str, object]] = [
    (boolean(), "true", True),
    (boolean(), "OFF", False),
    (boolean(), "1", True),
    (text(), "FAILOVER ACTIVE", "FAILOVER ACTIVE"),
    (text(pattern="x?"), "", ""),
    (path(), "storage/keys/a b.key", "storage/keys/a b.key"),
    (plugin_name("paper"), "ALPACA", "alpaca"),
    (plugin_name("paper", empty=True), "", ""),
    (choice("InverseETF", "disabled"), "inverseetf", "InverseETF"),
    (integer(), "0", 0),
    (integer(least=-5, most=5), "-5", -5),
    (integer(), "+12", 12),
    (count_of("bar"), "1 bar", 1),
    (count_of("bar"), "2", 2),
    (minutes(), "5 minutes", 5),
    (minutes(), "5m", 5),
    (number(), "-1.5", -1.5),
    (number(least=0, most=0.5), ".5", 0.5),
    (fraction(), "0.020", D("0.020")),
    (fraction(of=Decimal), "1", D(1)),
    (fraction(of=float), "0.02", 0.02),
    (percent(), "66", D(66)),
    (money(), "2000000000", D(2_000_000_000)),
    (duration(), "50ms", 0.05),
    (duration(), "1S", 1.0),
    (duration(), "2m", 120.0),
    (duration(), "1 h", 3600.0),
    (duration(bare="s"), "30", 30.0),
    (clock_time(), "14:30", time(14, 30)),
    (clock_time(), "9:05", time(9, 5)),
    (clock_time(), "09:50 ET", time(9, 50, tzinfo=exchange_zone())),
    (clock_time(), "9:50et", time(9, 50, tzinfo=exchange_zone())),
    (names(), "", ()),
    (names(), "a, b", ("a", "b")),
    (names(case="lower"), "Open,MID", ("open", "mid")),
    (names(case="upper"), "brk.b,^vix", ("BRK.B", "^VIX")),
    (weights(), "0.4, 0.2", (D("0.4"), D("0.2"))),
    (weekdays(), "fri,Monday,mon", (0, 4)),
    (optional(money(), zero=True), "0", None),
    (optional(money()), "0", D(0)),
    (optional(money()), "", None),
    (optional(money()), "7", D(7)),
]

REFUSED: list[tuple[SettingKind[Any], list[str]]] = [
    (boolean(), ["", "maybe", "2"]),
    (text(), ["", "two\nlines", "x" * 201]),
    (plugin_name("paper"), ["", "a b", "../x", "9x"]),
    (choice("json", "csv"), ["", "xml"]),
    (integer(), ["", "-1", "1.0", "1e3", "1_000", "٣", "9" * 30]),
    (integer(most=3), ["4"]),
    (count_of("bar"), ["bar", "1 minute", "-1"]),
    (number(), ["", "nan", "inf", "1e400", "0x1", "1,5"]),
    (number(least=0), ["-0.1"]),
    (fraction(), ["", "-0.01", "1.01", "2%", "NaN"]),
    (percent(), ["101", "-1"]),
    (money(), ["-1", "$5"]),
    (duration(least="50ms", most="60s"), ["", "1", "0s", "49ms", "61s", "2m", "1d", "-1s"]),
    (clock_time(), ["", "24:00", "14:60", "14", "14:30:00", "09:50 EST", "09:50 UTC", "ET"]),
    (names(), ["a,,b", "a b", ","]),
    (names(empty=False), ["", " ", ","]),
    (weights(), ["", "0.4,", "0.4;0.2", "-0.1,0.5"]),
    (weekdays(), ["", "mon,xyz", "m"]),
    (optional(money()), ["-1", "x"]),
]


@pytest.mark.parametrize(("kind", "written", "value"), READ)
def test_a_kind_reads_what_people_write(kind: SettingKind[Any], written: str, value: object) -> None:
    """Each kind reads its usual spellings, and writes its value so that it reads the same value again."""
    read = kind.parse(written)
    assert read == value
    assert type(read) is type(value)
    assert kind.parse(kind.show(read)) == read


@pytest.mark.parametrize(("kind", "written"), [(kind, written) for kind, texts in REFUSED for written in texts])
def test_a_kind_refuses_everything_else_with_value_error(kind: SettingKind[Any], written: str) -> None:
    """What a kind does not allow is a ValueError, and the kind says what is allowed."""
    with pytest.raises(ValueError):
        kind.parse(written)
    assert kind.allowed


@pytest.mark.slow
@given(st.text(), st.sampled_from([kind for kind, _, _ in READ]))
def test_no_text_makes_a_kind_raise_anything_but_value_error(written: str, kind: SettingKind[Any]) -> None:
    """Any text is either a value whose own spelling reads the same, or a ValueError."""
    try:
        value = kind.parse(written)
    except ValueError:
        return
    assert kind.parse(kind.show(value)) == value


@pytest.mark.parametrize("kind", [kind for kind, _, _ in READ])
def test_empty_is_said_by_the_kind(kind: SettingKind[Any]) -> None:
    """A kind that says it may be empty reads the empty text, any other refuses it."""
    if kind.empty:
        kind.parse("")
    else:
        with pytest.raises(ValueError):
            kind.parse("")


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (number(), "a number"),
        (number(most=3), "a number of at most 3"),
        (integer(), "a whole number of at least 0"),
        (fraction(), "a fraction (0.02 is 2 %) from 0 to 1"),
        (duration(least="50ms", most="60s"), "a time span with its unit (ms, s, m, h) from 50ms to 60s"),
        (duration(bare="s"), "a time span in s from 0s to 24h"),
        (choice("json", "csv"), "one of json, csv"),
        (
            optional(money(), zero=True, absent="0 or empty for none"),
            "an amount in USD of at least 0, or 0 or empty for none",
        ),
    ],
)
def test_what_is_allowed_is_said_with_its_bounds(kind: SettingKind[Any], allowed: str) -> None:
    """The words that an error quotes name the bounds."""
    assert kind.allowed == allowed


@pytest.mark.parametrize(
    ("value", "written"), [("0.020", "0.02"), ("-0.0", "0"), ("100", "100"), ("1E+3", "1000"), ("-1.50", "-1.5")]
)
def test_a_decimal_has_one_spelling(value: str, written: str) -> None:
    """Equal decimals are written alike, so that fingerprints of settings agree."""
    assert plain_decimal(Decimal(value)) == written


@attrs.frozen(kw_only=True)
class Config:
    """A plugin's settings."""

    window: int = 3
    buffer: float = setting(
        "STRAT_X_BUFFER",
        fraction(of=float),
        default=0.02,
        doc="A distance.",
        aliases=("X_BUFFER",),
        acted_on=False,
        changes_trades=False,
    )
    universe: tuple[str, ...] = setting("X_UNIVERSE", names(), default="A,B", doc="Symbols.")


def test_a_declaration_carries_everything_about_a_setting() -> None:
    """Fields made by `setting` are found with name, kind, default in both forms, and traits; other fields are not."""
    found = declarations(Config)
    assert list(found) == ["buffer", "universe"]
    buffer = found["buffer"]
    assert (buffer.name, buffer.default, buffer.default_text, buffer.doc) == (
        "STRAT_X_BUFFER",
        0.02,
        "0.02",
        "A distance.",
    )
    assert (buffer.aliases, buffer.acted_on, buffer.changes_trades) == (("X_BUFFER",), False, False)
    assert (buffer.since, buffer.file) == ("1.0", ".env_bot")
    assert found["universe"].acted_on
    assert Config() == Config(window=3, buffer=0.02, universe=("A", "B"))


def test_a_default_must_be_allowed() -> None:
    """A default that its own kind refuses is found when the class is made."""
    with pytest.raises(ValueError, match="STRAT_X: the default '2' is not a fraction"):
        setting("STRAT_X", fraction(), default="2", doc="A distance.")
