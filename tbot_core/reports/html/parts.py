"""The pieces of the report's sections: headings, tables, times and amounts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from tbot_core.model.clock import both_times, exchange_time
from tbot_core.model.formatting import format_money

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from decimal import Decimal


def section(name: str, content: str) -> str:
    """A section with its heading."""
    return f"<section><h2>{name}</h2>\n{content}</section>"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kinds: str) -> str:
    """A table; `kinds` has a letter per column: left, number (right), wide (wraps).

    On a phone the cells of a row with a wide one stand below each other, numbers with the name of their column.
    """
    head = "".join(_head(text, kind) for text, kind in zip(heads, kinds, strict=True))
    body = "\n".join(_row(heads, row, kinds) for row in rows)
    stacked = " stacked" if "w" in kinds else ""
    return f'<div class="table{stacked}"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def clock(moment: datetime) -> str:
    """Exchange time, with UTC beside it."""
    there = f'<span title="{escape(both_times(moment))}">{exchange_time(moment):%H:%M}</span>'
    return f'{there} <span class="soft">{moment:%H:%M}</span>'


def signed(amount: Decimal) -> str:
    """An amount with its sign, in the colour of a gain or a loss."""
    kind = "gain" if amount > 0 else "loss" if amount < 0 else "soft"
    return f'<span class="{kind}">{format_money(amount, signed=True)}</span>'


def _head(text: str, kind: str) -> str:
    return f'<th scope="col"{_class(kind)}>{text}</th>'


def _row(heads: Sequence[str], cells: Sequence[str], kinds: str) -> str:
    inside = []
    for head, cell, kind in zip(heads, cells, kinds, strict=True):
        name = f' data-name="{head}"' if kind == "n" and "w" in kinds else ""
        inside.append(f"<td{_class(kind)}{name}>{cell}</td>")
    return f"<tr>{''.join(inside)}</tr>"


def _class(kind: str) -> str:
    return {"n": ' class="n"', "w": ' class="wide"'}.get(kind, "")
