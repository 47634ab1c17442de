"""The declaration of a setting: one field of a frozen attrs class, with its kind, default and meaning.

A kind converts text of a settings file to a value and back, and describes what is allowed. Core and plugins declare in
the same way::

    @attrs.frozen(kw_only=True)
    class Config:
        buffer: float = setting("STRAT_OPEN_BUFFER", fraction(of=float), default="0.02", doc="...")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import time
from decimal import Decimal
from itertools import zip_longest
from typing import Any, Final, Generic, Literal, TypedDict, TypeVar, Unpack, overload

import attrs

from tbot_core.model.clock import exchange_zone
from tbot_core.model.window import start_text

T = TypeVar("T")
METADATA: Final = "tbot_core.contracts.setting"
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,18}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_COUNT = re.compile(r"([0-9]{1,9})[ \t]*([a-z]*)", re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)[ \t]*(ms|s|m|h)?", re.IGNORECASE)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])(\s*ET)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9^][A-Za-z0-9_.:/^-]{0,63}")
_PLUGIN_NAME = r"[A-Za-z][A-Za-z0-9_]{0,63}"
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@attrs.frozen(kw_only=True)
class SettingKind(Generic[T]):
    """A type of value: `parse` reads text and raises ValueError, `show` writes it so that `parse` reads the same value.

    `allowed` completes "allowed is ...". `empty`: the file may leave the value empty. `choices`: the words of a choice.
    """

    name: str
    allowed: str
    parse: Callable[[str], T] = attrs.field(eq=False)
    show: Callable[[T], str] = attrs.field(eq=False)
    empty: bool = False
    choices: tuple[str, ...] = ()


@attrs.frozen
class Permits:
    """Which change of a setting permits more than before: a person who makes it on the web page enters the password.

    `direction`: `any` change, `none`; a `larger` or `smaller` value, where `texts` have no limit at all; names `added`
    (`texts` stand for all names) or `removed`, their order counts; names of `checks`, of which one is removed or, by a
    name with `-` before it or by `none`, taken away; `unless` the new value is one of `texts`. `why` is the reason as a
    sentence; without one it follows from the direction.
    """

    direction: Literal["any", "none", "larger", "smaller", "added", "removed", "checks", "unless"] = "any"
    texts: tuple[str, ...] = ()
    why: str = attrs.field(default="", kw_only=True)

    def reason(self, kind: SettingKind[Any], before: str, after: str) -> str:
        """Why the change of a text to another one permits more; "" where it does not, or the texts are equal.

        Where the two cannot be compared it counts as one that permits more.
        """
        if before == after or not self._is_more(kind, before, after):
            return ""
        if self.why:
            return self.why
        if self.direction in _UNLIMITED and after in self.texts:
            return _UNLIMITED[self.direction]
        return _REASONS[self.direction].format(" or ".join(one or "empty" for one in self.texts))

    def _is_more(self, kind: SettingKind[Any], before: str, after: str) -> bool:
        if self.direction in _UNLIMITED and {before, after} & set(self.texts):
            return after in self.texts
        if self.direction in _COMPARED:
            try:
                return _COMPARED[self.direction](kind.parse(before), kind.parse(after))
            except (TypeError, ValueError):
                return True
        return self.direction == "any" or (self.direction == "unless" and after not in self.texts)


_REASONS: Final = {
    "any": "Any change of it may permit more than before.",
    "larger": "A larger value permits more than before.",
    "smaller": "A smaller value permits more than before.",
    "added": "What is added, or put in another order, permits more than before.",
    "removed": "What is taken away, or put in another order, restricts nothing from then on.",
    "checks": "What is taken away, or put in another order, checks nothing from then on.",
    "unless": "Another value than {} permits more.",
}
_UNLIMITED: Final = {
    "larger": "Without this limit more is permitted than before.",
    "smaller": "Without this limit more is permitted than before.",
    "added": "Without these names nothing is left out.",
}


def _exceeds(one: Any, other: Any) -> bool:
    # Of several values (weights) any that exceeds its counterpart; a missing one is 0.
    if isinstance(one, tuple):
        return any(mine > its for mine, its in zip_longest(one, other, fillvalue=0))
    return bool(one > other)


def _is_part(part: Any, whole: Any) -> bool:
    # Whether the first is the second without some of its members, in the same order.
    rest = iter(whole)
    return all(one in rest for one in part)


def _loses_checks(old: Any, new: Any) -> bool:
    # Whether a name is missing, or a standard check is taken away that was not: with `-` before it, or all by `none`.
    taken, before = ({name for name in names if name == "none" or name[0] == "-"} for names in (new, old))
    named, former = ([name for name in names if name != "none" and name[0] != "-"] for names in (new, old))
    return not _is_part(former, named) or not ("none" in before or taken <= before)


_COMPARED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "larger": lambda old, new: _exceeds(new, old),
    "smaller": _exceeds,
    "added": lambda old, new: not _is_part(new, old),
    "removed": lambda old, new: not _is_part(old, new),
    "checks": _loses_checks,
}


class SettingTraits(TypedDict, total=False):
    """Optional traits of a declaration.

    `aliases`: other names. `since`: the first version. `acted_on`: false for a setting that is accepted without effect
    yet. `changes_trades`: false for one that no decision depends on. `file`: its file, `.env_bot` by default.
    `permits`: the change that permits more, by default any.
    """

    aliases: tuple[str, ...]
    since: str
    acted_on: bool
    changes_trades: bool
    file: str
    permits: Permits


@attrs.frozen(kw_only=True)
class SettingDeclaration:
    """One setting: its variable, kind, default and meaning, and the traits of `SettingTraits`.

    `default` is the value, `default_text` its text in a file.
    """

    name: str
    kind: SettingKind[Any]
    default: Any
    default_text: str
    doc: str
    aliases: tuple[str, ...] = ()
    since: str = "1.0"
    acted_on: bool = True
    changes_trades: bool = True
    file: str = ".env_bot"
    permits: Permits = Permits()


@attrs.frozen
class NoSettings:
    """The config of a plugin without settings."""


@attrs.frozen(kw_only=True)
class DeclaredConfig:
    """The declarations of a plugin: `config` is the frozen attrs class of its settings, `secrets` has one per category.

    `kind` is the singular (broker, strategy, filter, ...). `tables` names the files in its data folder that its
    decisions depend on. `hosts` names the hosts that it connects to, with their addresses.
    """

    kind: str
    name: str
    config: type[Any] = NoSettings
    secrets: Mapping[str, type[Any] | None] = attrs.field(factory=dict)
    tables: tuple[str, ...] = ()
    hosts: Mapping[str, str] = attrs.field(factory=dict)


def declare(
    name: str, kind: SettingKind[T], *, default: T | str, doc: str, **traits: Unpack[SettingTraits]
) -> SettingDeclaration:
    """The declaration of variable `name`.

    `default` is a value or its text. `doc` is one sentence that names the unit. Raises ValueError for a default that
    the kind does not allow.
    """
    try:
        value = kind.parse(default if isinstance(default, str) else kind.show(default))
    except ValueError as error:
        message = f"{name}: the default {default!r} is not {kind.allowed}"
        raise ValueError(message) from error
    return SettingDeclaration(name=name, kind=kind, default=value, default_text=kind.show(value), doc=doc, **traits)


def setting(name: str, kind: SettingKind[T], *, default: T | str, doc: str, **traits: Unpack[SettingTraits]) -> T:
    """A field of a frozen attrs class that the settings file fills from variable `name`: see `declare`."""
    declaration = declare(name, kind, default=default, doc=doc, **traits)
    field: T = attrs.field(default=declaration.default, metadata={METADATA: declaration})
    return field


def declarations(config: type[Any]) -> dict[str, SettingDeclaration]:
    """The declarations of an attrs class by field name, in field order; other fields are left out."""
    return {field.name: field.metadata[METADATA] for field in attrs.fields(config) if METADATA in field.metadata}


def plain_decimal(value: Decimal) -> str:
    """A finite decimal without exponent and without trailing zeros; zero has no sign."""
    digits = format(value, "f")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def boolean() -> SettingKind[bool]:
    """True or false; yes, no, on, off, 1 and 0 are accepted too."""

    def parse(text: str) -> bool:
        try:
            return _BOOLEANS[text.lower()]
        except KeyError as error:
            raise ValueError(text) from error

    return SettingKind(name="boolean", allowed="true or false", parse=parse, show=lambda value: str(value).lower())


def text(*, pattern: str = r"[^\x00-\x1f\x7f]{1,200}", allowed: str = "one line of text") -> SettingKind[str]:
    """Text that matches `pattern` as a whole; empty if the pattern allows it."""
    compiled = re.compile(pattern)

    def parse(written: str) -> str:
        if compiled.fullmatch(written) is None:
            raise ValueError(written)
        return written

    return SettingKind(name="text", allowed=allowed, parse=parse, show=str, empty=compiled.fullmatch("") is not None)


def plugin_name(example: str, *, empty: bool = False) -> SettingKind[str]:
    """The name of one plugin, in any case, stored in lower case; `empty` allows none."""
    pattern = _PLUGIN_NAME if not empty else f"(?:{_PLUGIN_NAME})?"
    written = text(pattern=pattern, allowed=f"a plugin's name, such as {example}" + (", or empty" if empty else ""))
    return attrs.evolve(written, name="plugin_name", parse=lambda name: written.parse(name).lower())


def path() -> SettingKind[str]:
    """A path, relative to the instance unless it is absolute; in a file a secret in place of one is refused."""
    return attrs.evolve(text(allowed="a path, relative to the instance"), name="path")


def choice(*words: str) -> SettingKind[str]:
    """One of these words in any case; the value has the given spelling."""
    spelling = {word.lower(): word for word in words}

    def parse(written: str) -> str:
        try:
            return spelling[written.lower()]
        except KeyError as error:
            raise ValueError(written) from error

    return SettingKind(name="choice", allowed=f"one of {', '.join(words)}", parse=parse, show=str, choices=words)


def integer(*, least: int = 0, most: int | None = None) -> SettingKind[int]:
    """A whole number between the bounds, both inclusive."""

    def parse(written: str) -> int:
        if _INTEGER.fullmatch(written) is None:
            raise ValueError(written)
        return _bounded(int(written), least, most)

    return SettingKind(name="integer", allowed=f"a whole number {_between(least, most)}", parse=parse, show=str)


def count_of(word: str, *, least: int = 0, most: int | None = None) -> SettingKind[int]:
    """A whole number with an optional unit in singular, plural or by first letter: `1`, `1 bar`, `5 minutes`."""
    units = {"", word[0], word, f"{word}s"}

    def parse(written: str) -> int:
        match = _COUNT.fullmatch(written)
        if match is None or match[2].lower() not in units:
            raise ValueError(written)
        return _bounded(int(match[1]), least, most)

    allowed = f"a whole number of {word}s {_between(least, most)}"
    return SettingKind(name=f"{word}s", allowed=allowed, parse=parse, show=str)


def minutes(*, least: int = 0, most: int = 390) -> SettingKind[int]:
    """A whole number of minutes."""
    return count_of("minute", least=least, most=most)


def number(*, least: float | None = None, most: float | None = None) -> SettingKind[float]:
    """A float between the bounds, both inclusive."""
    kind = _decimal("number", "a number", least=_exact(least), most=_exact(most))
    return _as_float(kind)


@overload
def fraction(*, least: str = "0", most: str | None = "1") -> SettingKind[Decimal]: ...
@overload
def fraction(*, of: type[Decimal], least: str = "0", most: str | None = "1") -> SettingKind[Decimal]: ...
@overload
def fraction(*, of: type[float], least: str = "0", most: str | None = "1") -> SettingKind[float]: ...
def fraction(
    *, of: type[Decimal | float] = Decimal, least: str = "0", most: str | None = "1"
) -> SettingKind[Decimal] | SettingKind[float]:
    """A share of 1 (0.02 is 2 %) as Decimal, or as float for use with market data."""
    kind = _decimal("fraction", "a fraction (0.02 is 2 %)", least=Decimal(least), most=_exact(most))
    return _as_float(kind) if of is float else kind


def above_zero(kind: SettingKind[Decimal]) -> SettingKind[Decimal]:
    """The same kind without 0, for a limit that 0 would trigger at once."""

    def parse(written: str) -> Decimal:
        value = kind.parse(written)
        if value <= 0:
            raise ValueError(written)
        return value

    return attrs.evolve(kind, allowed=f"{kind.allowed} and more than 0", parse=parse)


def percent(*, least: str = "0", most: str | None = "100") -> SettingKind[Decimal]:
    """A percentage as written: 0.15 is 0.15 %, not 15 %."""
    return _decimal("percent", "a percentage (15 is 15 %)", least=Decimal(least), most=_exact(most))


def money(*, least: str = "0", most: str | None = None) -> SettingKind[Decimal]:
    """An amount in USD."""
    return _decimal("money", "an amount in USD", least=Decimal(least), most=_exact(most))


def duration(*, least: str = "0s", most: str = "24h", bare: str | None = None) -> SettingKind[float]:
    """A time span with its unit (`50ms`, `1s`, `2m`, `1h`), in seconds; `bare` is the unit of a number without one."""
    low, high = _seconds(least, None), _seconds(most, None)

    def parse(written: str) -> float:
        return float(_bounded(_seconds(written, bare), low, high))

    unit = "in s" if bare is not None else "with its unit (ms, s, m, h)"
    allowed = f"a time span {unit} from {least} to {most}"
    return SettingKind(
        name="duration", allowed=allowed, parse=parse, show=lambda value: f"{plain_decimal(Decimal(repr(value)))}s"
    )


def clock_time() -> SettingKind[time]:
    """A time of day, HH:MM; with ET it has the zone of New York."""

    def parse(written: str) -> time:
        match = _CLOCK.fullmatch(written)
        if match is None:
            raise ValueError(written)
        return time(int(match[1]), int(match[2]), tzinfo=exchange_zone() if match[3] else None)

    return SettingKind(name="clock_time", allowed="a time HH:MM, or HH:MM ET", parse=parse, show=start_text)


def names(*, case: str | None = None, empty: bool = True, taken_away: bool = False) -> SettingKind[tuple[str, ...]]:
    """Names separated by commas, blanks around them ignored; `case` is `lower`, `upper` or None.

    `taken_away`: a name may have `-` before it.
    """

    def parse(written: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in written.split(",")) if written.strip() else ()
        plain = (name.removeprefix("-") for name in found) if taken_away else found
        if not all(_NAME.fullmatch(name) for name in plain) or not (found or empty):
            raise ValueError(written)
        if case is None:
            return found
        return tuple(name.lower() if case == "lower" else name.upper() for name in found)

    allowed = f"names separated by commas{', each with or without - before it' if taken_away else ''}"
    return SettingKind(name="names", allowed=allowed, parse=parse, show=",".join, empty=empty)


def weights() -> SettingKind[tuple[Decimal, ...]]:
    """Fractions separated by commas, each from 0 to 1."""
    one = fraction()

    def parse(written: str) -> tuple[Decimal, ...]:
        return tuple(one.parse(part.strip()) for part in written.split(","))

    allowed = "fractions from 0 to 1 separated by commas, which sum to at most 1"
    return SettingKind(
        name="weights", allowed=allowed, parse=parse, show=lambda value: ",".join(map(plain_decimal, value))
    )


def weekdays() -> SettingKind[tuple[int, ...]]:
    """Days of the week separated by commas (mon, tue, ...), sorted and without repeats; Monday is 0."""

    def parse(written: str) -> tuple[int, ...]:
        days = [part.strip().lower() for part in written.split(",")]
        spellings = [_LONG_WEEKDAYS if day in _LONG_WEEKDAYS else WEEKDAYS for day in days]
        return tuple(sorted({words.index(day) for words, day in zip(spellings, days, strict=True)}))

    allowed = f"days separated by commas, of {', '.join(WEEKDAYS)}"
    return SettingKind(
        name="weekdays", allowed=allowed, parse=parse, show=lambda value: ",".join(WEEKDAYS[day] for day in value)
    )


def optional(kind: SettingKind[T], *, zero: bool = False, absent: str = "empty") -> SettingKind[T | None]:
    """The same kind or None, which a file writes as empty, or also as 0 with `zero`; `absent` describes it."""

    def parse(written: str) -> T | None:
        if not written:
            return None
        value = kind.parse(written)
        return None if zero and value == 0 else value

    return SettingKind(
        name=kind.name,
        allowed=f"{kind.allowed}, or {absent}",
        parse=parse,
        show=lambda value: "" if value is None else kind.show(value),
        empty=True,
        choices=("", *kind.choices) if kind.choices else (),
    )


def _decimal(name: str, what: str, *, least: Decimal | None, most: Decimal | None) -> SettingKind[Decimal]:
    def parse(written: str) -> Decimal:
        if _NUMBER.fullmatch(written) is None:
            raise ValueError(written)
        return _bounded(Decimal(written), least, most)

    bounds = _between(None if least is None else plain_decimal(least), None if most is None else plain_decimal(most))
    return SettingKind(name=name, allowed=f"{what} {bounds}".rstrip(), parse=parse, show=plain_decimal)


def _as_float(kind: SettingKind[Decimal]) -> SettingKind[float]:
    return SettingKind(
        name=kind.name,
        allowed=kind.allowed,
        parse=lambda written: float(kind.parse(written)),
        show=lambda value: plain_decimal(Decimal(repr(float(value)))),
    )


def _seconds(written: str, bare: str | None) -> Decimal:
    match = _DURATION.fullmatch(written)
    unit = None if match is None else (match[2] or bare)
    if match is None or unit is None:
        raise ValueError(written)
    return Decimal(match[1]) * _SECONDS[unit.lower()]


def _exact(bound: float | str | None) -> Decimal | None:
    return None if bound is None else Decimal(str(bound))


_Number = TypeVar("_Number", int, Decimal)


def _bounded(value: _Number, least: _Number | None, most: _Number | None) -> _Number:
    if (least is not None and value < least) or (most is not None and value > most):
        raise ValueError(value)
    return value


def _between(least: object, most: object) -> str:
    match least, most:
        case None, None:
            return ""
        case _, None:
            return f"of at least {least}"
        case None, _:
            return f"of at most {most}"
        case _:
            return f"from {least} to {most}"
