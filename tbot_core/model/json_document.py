"""The only parser of JSON from outside: files, standard input, messages of other processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_DEEPEST: Final = 100
"""Deeper nesting is refused, since it could exceed the recursion limit of code that walks the value."""


class InvalidJson(ValueError):
    """The text is not JSON or exceeds a limit; the message quotes nothing of it."""


def parse_json(
    text: str | bytes,
    pairs: Callable[[Sequence[tuple[str, Any]]], dict[str, Any]] | None = None,
    *,
    fractions: Callable[[str], Any] | None = None,
) -> Any:
    """Parse a JSON text; `pairs` makes each object from its fields, in order, `fractions` each number with a fraction.

    Raises InvalidJson for invalid JSON, for integers of more than 4,300 digits, and for more than 100 levels.
    """
    try:
        found = json.loads(text, object_pairs_hook=pairs, parse_float=fractions)  # noqa: TID251  # the only parser
    except json.JSONDecodeError as fault:
        raise InvalidJson(f"invalid JSON at line {fault.lineno}, column {fault.colno}") from None
    except UnicodeDecodeError:
        raise InvalidJson("it is not UTF-8 text") from None
    except RecursionError:
        raise InvalidJson(f"it is nested deeper than {_DEEPEST}") from None
    except ValueError:  # an integer with too many digits for Python
        raise InvalidJson("it contains a number with too many digits") from None
    if _brackets(text) > _DEEPEST and _deeper(found):
        raise InvalidJson(f"it is nested deeper than {_DEEPEST}")
    return found


def invalid_utf8_places(found: Any, place: str = "") -> Iterator[str]:
    r"""The places of text that UTF-8 cannot encode, such as `smtp.password`; `place` is the path of the value.

    JSON allows half of a surrogate pair, such as `"\ud800"`. An invalid field name is reported as its parent's path.
    """
    match found:
        case str() if not _is_utf8(found):
            yield place
        case dict():
            for name, value in found.items():
                if _is_utf8(name):
                    yield from invalid_utf8_places(value, f"{place}.{name}" if place else name)
                else:
                    yield place
        case list():
            for value in found:
                yield from invalid_utf8_places(value, place)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _brackets(text: str | bytes) -> int:
    return text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")


def _deeper(found: Any) -> bool:
    layer = [found]
    for _ in range(_DEEPEST):
        layer = [one for outer in layer for one in _values(outer)]
    return bool(layer)


def _values(outer: Any) -> Iterator[Any]:
    # The lists and objects in a list or an object.
    inner = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return (one for one in inner if isinstance(one, dict | list))
