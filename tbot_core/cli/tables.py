"""Tables and sentences, as wide as the terminal; unlimited width without a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import click

from tbot_core.model.clock import exchange_time
from tbot_core.model.formatting import MINUS, format_money, format_prices, format_quantity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tbot_core.model.types import Trade

_GAP: Final = 2
_READABLE: Final = 24
"""Columns that a sentence needs; on a narrower terminal it is not wrapped."""

_SHORT: Final = {
    "trailing stop": "trail",
    "session end": "end",
    "daily loss": "loss",
    "no market": "market",
    "unprotected": "bare",
    "rebalance": "trim",
}


@attrs.frozen(kw_only=True)
class _Column:
    head: str
    kind: str
    cells: Sequence[str]

    @property
    def width(self) -> int:
        return max(len(click.unstyle(text)) for text in (self.head, *self.cells))


_Columns: TypeAlias = dict[str, _Column]


def text_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], kinds: str, width: int | None = None
) -> Iterator[str]:
    """Rows under their heads, at most `width` wide. `kinds` has one letter per column: left, number or wide.

    A wide cell continues on the next lines of its column.
    """
    widths = [max(len(click.unstyle(row[at])) for row in (heads, *rows)) for at in range(len(heads))]
    indent = _wide(widths[:-1]) + _GAP
    for row in (heads, *rows):
        last = row[-1]
        if width is not None and kinds.endswith("w") and width - indent >= _READABLE:
            last, *more = textwrap.wrap(last, width - indent, break_long_words=False, break_on_hyphens=False) or [""]
        else:
            more = []
        cells = []
        for cell, column_width, kind in zip((*row[:-1], last), widths, kinds, strict=True):
            blank = " " * (column_width - len(click.unstyle(cell)))
            cells.append(blank + cell if kind == "n" else cell + blank)
        line = f"  {'  '.join(cells)}".rstrip()
        yield click.style(line, dim=True) if row is heads else line
        yield from (" " * indent + one for one in more)


def wrap_sentence(line: str, width: int | None) -> Iterator[str]:
    """A sentence on as many lines as it needs, broken between words, with indented continuation lines."""
    indent = " " * (len(line) - len(line.lstrip()))
    if width is None or len(line) <= width or width - len(indent) < _READABLE:
        yield line
        return
    yield from textwrap.wrap(
        line.lstrip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def style_signed(text: str) -> str:
    """A signed amount, blue for a gain and yellow for a loss; without colour the sign shows it."""
    return click.style(text, fg="yellow" if text.startswith(MINUS) else "cyan")


def trade_table(trades: Sequence[Trade], width: int | None = None, *, several: bool = False) -> Iterator[str]:
    """One line per trade, with its broker where there are several.

    On a narrow terminal cells are shortened or left out, the least needed first.
    """
    columns = _columns(trades, several=several)
    dated = False
    for narrower in _STEPS:
        if width is None or _wide([column.width for column in columns.values()]) <= width:
            break
        dated = dated or "session" in columns
        narrower(columns)
    heads = [column.head for column in columns.values()]
    rows = list(zip(*(column.cells for column in columns.values()), strict=True))
    head, *lines = text_table(heads, rows, "".join(column.kind for column in columns.values()))
    yield head
    day = None
    for trade, line in zip(trades, lines, strict=True):
        date = exchange_time(trade.entry_time).date()
        if dated and date != day:
            day = date
            yield click.style(f"  {day}", dim=True)
        yield line


def _columns(trades: Sequence[Trade], *, several: bool) -> _Columns:
    entries, exits = (
        format_prices([trade.entry_price for trade in trades]),
        format_prices([trade.exit_price for trade in trades]),
    )
    cells_by_name: Mapping[str, tuple[str, str, Sequence[str]]] = {
        "session": ("session", "l", [f"{exchange_time(trade.entry_time):%m-%d}" for trade in trades]),
        "strategy": ("strategy", "l", [trade.strategy for trade in trades]),
        "symbol": ("symbol", "l", [trade.symbol for trade in trades]),
        **({"broker": ("broker", "l", [trade.broker for trade in trades])} if several else {}),
        "side": ("side", "l", [trade.side.word for trade in trades]),
        "shares": ("shares", "n", [format_quantity(trade.quantity) for trade in trades]),
        "entry": ("entry", "l", [f"{exchange_time(trade.entry_time):%H:%M}" for trade in trades]),
        "paid": ("at", "n", entries),
        "exit": ("exit", "l", [f"{exchange_time(trade.exit_time):%H:%M}" for trade in trades]),
        "got": ("at", "n", exits),
        "why": ("why", "l", [trade.exit_reason.word for trade in trades]),
        "pnl": ("P&L", "n", [style_signed(format_money(trade.pnl, signed=True)) for trade in trades]),
    }
    return {name: _Column(head=head, kind=kind, cells=cells) for name, (head, kind, cells) in cells_by_name.items()}


def _first_words(columns: _Columns) -> None:
    columns["why"] = attrs.evolve(columns["why"], cells=[_SHORT.get(cell, cell) for cell in columns["why"].cells])


def _without(name: str) -> Callable[[_Columns], None]:
    def narrower(columns: _Columns) -> None:
        del columns[name]

    return narrower


def _wide(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * len(widths)


_STEPS: Final[Sequence[Callable[[_Columns], None]]] = (
    _without("session"),
    _first_words,
    *(_without(name) for name in ("exit", "shares", "entry", "strategy", "why", "side", "paid", "got")),
)
"""How the trade table gets narrower, in this order. Without its column, the session is a line above its trades."""
