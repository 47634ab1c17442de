"""The one reader of JSON that comes from outside: files, standard input, messages of other processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DEEPEST: Final = 100
"""Nothing that tbot or a person writes is nested as deep; what is could end whoever walks through it."""


class InvalidJson(ValueError):
    """A text is no JSON, or holds what must not be read; the words quote nothing of it."""


def parse_json(text: str | bytes, pairs: Callable[[Sequence[tuple[str, Any]]], dict[str, Any]] | None = None) -> Any:
    """The value that a JSON text spells; `pairs` makes each object of its fields, in order, as they are spelled.

    Raises Unreadable for what is no JSON, for whole numbers of more than 4,300 digits, and for more than 100 levels.
    """
    try:
        found = json.loads(text, object_pairs_hook=pairs)  # noqa: TID251  # this is the reader
    except json.JSONDecodeError as fault:
        raise InvalidJson(f"invalid JSON at line {fault.lineno}, column {fault.colno}") from None
    except UnicodeDecodeError:
        raise InvalidJson("it is not UTF-8 text") from None
    except RecursionError:
        raise InvalidJson(f"it is nested deeper than {DEEPEST}") from None
    except ValueError:  # a number that Python does not take in
        raise InvalidJson("it contains a number with too many digits") from None
    if _brackets(text) > DEEPEST and _deeper(found):
        raise InvalidJson(f"it is nested deeper than {DEEPEST}")
    return found


def invalid_utf8_places(found: Any, place: str = "") -> Iterator[str]:
    r"""Where a value holds text that UTF-8 has no bytes for, as in `smtp.password`; `place` is where the value stands.

    JSON may spell half of a pair, such as `"\ud800"`, which nothing can write down again. A name like that is told by
    what holds it.
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
    for _ in range(DEEPEST):
        layer = [one for outer in layer for one in _values(outer)]
    return bool(layer)


def _values(outer: Any) -> Iterator[Any]:
    # The lists and objects in a list or an object.
    inner = outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ()
    return (one for one in inner if isinstance(one, dict | list))
