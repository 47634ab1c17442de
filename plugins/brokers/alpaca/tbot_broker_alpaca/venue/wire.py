"""What every document of the venue is written with: times, numbers, ids, page tokens and refusals."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tbot_core.model.clock import exchange_zone

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Row = TypeVar("Row")


class Refusal(Exception):
    """An answer of the vendor other than success: the status, and a body with `code` and `message`.

    Without a message the body is empty, and without a code it has none. `more` are further fields of the body.
    """

    def __init__(self, status: int, code: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status = status
        head = {"code": code} if code else {}
        self.document: dict[str, object] = {**head, "message": message, **more} if message else {}


def invalid(message: str) -> Refusal:
    """A parameter that is missing or wrong."""
    return Refusal(422, 40010001, message)


def unprocessable(message: str, **more: object) -> Refusal:
    """An order that the vendor's rules exclude."""
    return Refusal(422, 42210000, message, **more)


def forbidden(message: str, **more: object) -> Refusal:
    """An order that the account's state excludes."""
    return Refusal(403, 40310000, message, **more)


def not_found(message: str) -> Refusal:
    """Something that does not exist."""
    return Refusal(404, 40410000, message)


def stamp(moment: dt.datetime) -> str:
    """A time in UTC with nanoseconds, as the vendor writes it."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%S.%f}000Z"


def minute_stamp(moment: dt.datetime) -> str:
    """The start of a bar."""
    return f"{moment.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def day_start(day: dt.date) -> dt.datetime:
    """Midnight in New York, with which the vendor stamps a daily bar."""
    return dt.datetime.combine(day, dt.time(), exchange_zone())


def text_of(number: Decimal) -> str:
    """A number as text, without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def optional_text(number: Decimal | None) -> str | None:
    """A number as text; None for none."""
    return None if number is None else text_of(number)


def number_of(given: Any, name: str) -> Decimal | None:
    """A number that a client sent as text or as a JSON number; raises Refusal for anything else."""
    if given is None or given == "":
        return None
    try:
        found = Decimal(str(given))
    except InvalidOperation:
        raise invalid(f"invalid {name}: {given}") from None
    if not found.is_finite():
        raise invalid(f"invalid {name}: {given}")
    return found


def id_of(name: str) -> str:
    """The id of something with this name, as a UUID; the same name has the same id in each run."""
    digits = hashlib.sha256(name.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def moment_of(text: str, *, ends: bool = False) -> dt.datetime:
    """A time of a query; a date is its start in New York, or its end where it `ends` a range."""
    try:
        if len(text) == len("2022-01-03"):
            day = dt.date.fromisoformat(text)
            return day_start(day + dt.timedelta(days=1)) - dt.timedelta(microseconds=1) if ends else day_start(day)
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(400, 40010000, f"invalid time: {text}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=dt.UTC)


def whole_of(text: str | None, default: int, most: int) -> int:
    """A count of a query, at least 1 and at most `most`; raises Refusal for anything else."""
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise invalid(f"limit must be between 1 and {most}: {text}")
    return int(text)


def place_of(query: Mapping[str, str]) -> str | None:
    """The place of the last row of the page before, by the token that it named; None without one.

    A token is that of one query: with other parameters it raises Refusal, as one that no page named.
    """
    token = query.get("page_token")
    if token is None:
        return None
    try:
        asked, _, place = base64.b64decode(token).decode().partition("|")
    except ValueError:
        raise Refusal(400, 40010000, "invalid page token") from None
    if asked != _digest(query):
        raise Refusal(400, 40010000, "invalid page token")
    return place


def page_of(
    rows: Iterable[tuple[str, Row]], limit: int, query: Mapping[str, str]
) -> tuple[Sequence[tuple[str, Row]], str | None]:
    """The rows of the page that `query` asks for, and the token of the next one; a row has its place as text."""
    last = place_of(query)
    rest = iter(rows)
    if last is not None and not any(place == last for place, _ in rest):
        raise Refusal(400, 40010000, "invalid page token")
    page = [*islice(rest, limit)]
    more = next(rest, None) is not None
    return page, base64.b64encode(f"{_digest(query)}|{page[-1][0]}".encode()).decode() if more else None


def _digest(query: Mapping[str, str]) -> str:
    # What a query asks for, but for the place and the length of its page.
    wanted = sorted((name, text) for name, text in query.items() if name not in {"page_token", "limit"})
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]
