"""Redacts output: secrets that are held or were handed out, in any usual encoding, and text that looks like one."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, quote_plus

from tbot_core.system.secret import SHOWN, handed_out, living_secrets

_SHORTEST: Final = 4
"""Shorter secrets are not searched for: redacting ordinary words would reveal them."""

SHORT: Final = 8
"""Secrets of fewer characters are searched for as whole words only: inside of ordinary words they would be revealed."""

_KEY_TEXT: Final = re.compile(
    r"""
    (?<![\w-]) (?=[\w-]*[a-z]) (?=[\w-]*[A-Z]) [\w-]{43} (?![\w-]) =?
    | (?<![\w+/-]) (?=[\w+/]*[a-z]) (?=[\w+/]*[A-Z]) [A-Za-z0-9+/]{43} =
    | (?<![\w-]) (?: tbot1\. | gAAAA ) [\w-]{16,} =*
    | -----BEGIN\ .*
    | (?<![\w-]) (?: AKIA | ASIA | PK | AK | CK ) (?=[A-Z]*[0-9]) [A-Z0-9]{16,} (?![\w-])
    """,
    re.ASCII | re.VERBOSE | re.DOTALL,
)
"""A key file's text, an encrypted file's, a PEM block, and a broker's or cloud's key id."""

_RANDOM: Final = re.compile(r"[\w+=~-]{20,}", re.ASCII)
_MEETS: Final = re.compile(r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])")
_MEETINGS: Final = 4
_MEETS_EACH: Final = 10
"""A random text has a letter beside a digit at least so often, and at least once in so many characters."""

_HALF: Final = 8
_NOTHING: Final = r"[^\s\S]"
_SHAPES: Final = (
    (
        "author",
        re.compile(r"(?i)(authorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|token)\s+)?)[^\s\"',;]+"),
    ),
    ("bearer", re.compile(r"(?i)(\bbearer\s+)[\w.~+/=-]{8,}")),
    ("cook", re.compile(r"(?i)((?:set-)?cookie[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n]+")),
    (
        "=",
        re.compile(
            r"(?i)([?&](?:token|key|api_?key|apikey|secret|signature|sig|password|access_token|x-amz-signature)=)[^&\s\"'#]+"
        ),
    ),
    ("-----begin ", re.compile(r"()-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL)),
)
"""Each pattern with a text that every match contains when casefolded; testing that first saves most searches.

None contains "i": an ignore-case pattern matches the dotless and dotted i, casefolding does not.
"""


def redact(text: str) -> str:
    """Replace every secret that is held or was handed out, in any usual encoding, and every secret-shaped part."""
    values = _pattern(tuple(serial for serial, _ in living_secrets()), len(handed_out()))
    if values.pattern != _NOTHING:
        text = values.sub(SHOWN, text)
    folded = text.casefold()
    for sign, shape in _SHAPES:
        if sign in folded:
            text = shape.sub(rf"\1{SHOWN}", text)
    return text


def hide_keys(text: str) -> str:
    """Replace what is shaped like a key, a token or a password made by a program: one may stand in place of a path."""
    return _RANDOM.sub(lambda word: SHOWN if _is_random(word[0]) else word[0], _KEY_TEXT.sub(SHOWN, text))


def is_shaped_like_secret(text: str) -> bool:
    """Whether a text is as a whole what `hide_keys` hides."""
    return hide_keys(text) == SHOWN


def _is_random(word: str) -> bool:
    # Letters and digits alternate in a random text more often than in a name.
    return len(_MEETS.findall(word)) >= max(_MEETINGS, len(word) // _MEETS_EACH)


def redact_all(part: object) -> object:
    """Redact each text in a JSON value; mapping keys stay."""
    match part:
        case str():
            return redact(part)
        case Mapping():
            return {key: redact_all(value) for key, value in part.items()}
        case list() | tuple():
            return [redact_all(value) for value in part]
        case _:
            return part


def encodings(value: bytes) -> frozenset[str]:
    """The texts in which a value may appear: raw, halves, reversed, hex, base64 at each offset, URL, JSON."""
    text = value.decode(errors="replace")
    found = _readable(value) | {value.hex(), value.hex().upper()}
    middle = len(text) // 2
    found |= {half for half in (text[:middle], text[middle:]) if len(half) >= _HALF}
    for shift in range(3):
        found |= _base64_core(value, shift)
    return frozenset(form for form in found if len(form) >= _SHORTEST)


def _readable(value: bytes) -> set[str]:
    # The forms in which a person could read it, which may be an ordinary word.
    text = value.decode(errors="replace")
    found = {text, text[::-1], quote(value, safe=""), quote(value), quote_plus(value)}
    return found | {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1]}


def _words(value: bytes) -> set[str]:
    # The forms that are searched for as whole words only.
    return _readable(value) if len(value.decode(errors="replace")) < SHORT else set()


def _base64_core(value: bytes, shift: int) -> set[str]:
    # The base64 characters of the value when `shift` bytes precede it and anything follows.
    plain = base64.b64encode(bytes(shift) + value)
    first = (0, 2, 3)[shift]
    whole_bits = 8 * (shift + len(value))
    core = plain[first : whole_bits // 6].decode()
    return {core, core.replace("+", "-").replace("/", "_")}


@lru_cache(maxsize=1)
def _pattern(serials: tuple[int, ...], _: int) -> re.Pattern[str]:
    # The pattern for the secrets of these serials and for all values handed out, whose number only grows. Only the
    # latest is cached, so that it does not outlive a secret that was never handed out.
    values = {secret.inspect_bytes() for serial, secret in living_secrets() if serial in serials}
    values |= set(handed_out())
    found = {value: encodings(value) for value in values}
    anywhere = {form for value, forms in found.items() for form in forms - _words(value)}
    forms = anywhere.union(*found.values())
    return re.compile(_alternatives(sorted(forms, key=lambda form: (-len(form), form)), forms - anywhere))


def _alternatives(forms: list[str], words: set[str]) -> str:
    # The longest form first, grouped by the first character: most places of a text are decided by it alone. Those in
    # `words` have no letter or digit before or behind them.
    groups: dict[str, list[str]] = {}
    for form in forms:
        first, rest = re.escape(form[0]), re.escape(form[1:])
        if form in words:
            rest = f"(?<![^\\W_]{first}){rest}" if form[0].isalnum() else rest
            rest = f"{rest}(?![^\\W_])" if form[-1].isalnum() else rest
        groups.setdefault(form[0], []).append(rest)
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in groups.items()) or _NOTHING
