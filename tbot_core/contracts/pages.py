"""Pages of a plugin on the web page: what it is asked, and what it answers, as data.

A page is a sequence of blocks, not HTML: the web page escapes each text, labels each input and adds what protects a
form, so that a text from a vendor stays a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, get_args

import attrs

_PATH: Final = re.compile(r"(/[a-z0-9][a-z0-9-]{0,63}){0,4}")
_FIELD: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


class PagePermission(StrEnum):
    """What a user needs for a route of a plugin."""

    READ = "read"
    """To look at the bot: every role."""

    RUN = "run"
    """To start what only computes: traders and admins."""

    RESTRICT = "restrict"
    """To ask for less trading: traders and admins."""

    CONFIRM = "confirm"
    """To approve or reject an entry: traders and admins."""

    CONTROL = "control"
    """To allow more trading, or to end it: admins."""

    CONFIGURE = "configure"
    """To change how the bot is set up: admins."""


def _own_path(_owner: object, field: attrs.Attribute[str], value: object) -> None:
    if type(value) is not str or not _PATH.fullmatch(value):
        raise TypeError(f'{field.name} must be "" or a path such as /months, not {value!r}')


def _field_name(_owner: object, field: attrs.Attribute[str], value: object) -> None:
    if type(value) is not str or not _FIELD.fullmatch(value) or value == "csrf":
        raise TypeError(f"{field.name} must be a name such as first_day, not {value!r}")


def _exactly(*kinds: type) -> Callable[[object, attrs.Attribute[Any], object], None]:
    # No subclass: it would decide itself how it is written into a page.
    def check(_owner: object, field: attrs.Attribute[Any], value: object) -> None:
        if type(value) not in kinds:
            names = ", ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{field.name} must be of {names} itself, not {type(value).__name__}")

    return check


_TEXT: Final = _exactly(str)
_TEXTS: Final = attrs.validators.deep_iterable(_TEXT)


@attrs.frozen(kw_only=True)
class PageRequest:
    """A request to a route of a plugin.

    `path` is the route's own. `query` holds the fields of the address, `form` those of a form that was sent; of a name
    that occurs twice the last one counts. `user` and `role` (viewer, trader, admin) are who asks.
    """

    method: Literal["GET", "POST"]
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    form: Mapping[str, str] = attrs.field(factory=dict)
    user: str
    role: str


@attrs.frozen
class Heading:
    """A heading below the page's title."""

    text: str = attrs.field(validator=_TEXT)


@attrs.frozen
class Paragraph:
    """A paragraph."""

    text: str = attrs.field(validator=_TEXT)


@attrs.frozen
class Link:
    """A link to a page of the same plugin."""

    text: str = attrs.field(validator=_TEXT)
    path: str = attrs.field(validator=_own_path)
    query: Mapping[str, str] = attrs.field(factory=dict, validator=attrs.validators.deep_mapping(_TEXT, _TEXT))


@attrs.frozen(kw_only=True)
class Table:
    """A table; each row has a text for each column. `numbers` are the names of columns that are aligned right."""

    columns: Sequence[str] = attrs.field(validator=_TEXTS)
    rows: Sequence[Sequence[str]] = attrs.field(validator=attrs.validators.deep_iterable(_TEXTS))
    numbers: frozenset[str] = frozenset()

    @rows.validator
    def _check_lengths(self, _field: attrs.Attribute[Any], rows: Sequence[Sequence[str]]) -> None:
        if any(len(row) != len(self.columns) for row in rows):
            raise TypeError(f"each row must have {len(self.columns)} texts")


@attrs.frozen(kw_only=True)
class Field:
    """An input of a form: a text, or one of `choices`."""

    name: str = attrs.field(validator=_field_name)
    label: str = attrs.field(validator=_TEXT)
    value: str = attrs.field(default="", validator=_TEXT)
    choices: Sequence[str] = attrs.field(default=(), validator=_TEXTS)


@attrs.frozen(kw_only=True)
class Form:
    """A form that is sent to a POST route of the same plugin."""

    path: str = attrs.field(validator=_own_path)
    button: str = attrs.field(validator=_TEXT)
    fields: Sequence[Field] = attrs.field(default=(), validator=attrs.validators.deep_iterable(_exactly(Field)))


Block = Heading | Paragraph | Link | Table | Form
"""A part of a page."""


@attrs.frozen(kw_only=True)
class Page:
    """The answer of a route: the title and the blocks, in their order."""

    title: str = attrs.field(validator=_TEXT)
    blocks: Sequence[Block] = attrs.field(
        default=(), validator=attrs.validators.deep_iterable(_exactly(*get_args(Block)))
    )


@attrs.frozen
class GoTo:
    """The answer of a route that leads to another page of the same plugin, as after a form."""

    path: str = attrs.field(validator=_own_path)


@attrs.frozen(kw_only=True)
class PluginRoute:
    """A route of a plugin, served under /x/NAME.

    `path` is "" or such as /months; addresses carry what varies as query. `answer` is called in a thread, two calls at
    most at the same time, and has ten seconds. It raises UsageError for what cannot be done: its message and remedy are
    shown. `title` puts a GET route into the navigation. `stepped_up`: the user must have entered the password again
    within the last minutes.
    """

    path: str = attrs.field(default="", validator=_own_path)
    method: Literal["GET", "POST"] = attrs.field(default="GET", validator=attrs.validators.in_(("GET", "POST")))
    permission: PagePermission = attrs.field(validator=attrs.validators.instance_of(PagePermission))
    answer: Callable[[PageRequest], Page | GoTo] = attrs.field(validator=attrs.validators.is_callable())
    title: str = attrs.field(default="", validator=_TEXT)
    stepped_up: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Path and method."""
        return self.path, self.method
