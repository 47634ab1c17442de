"""What a person should know of a session that is ready: signals that it will not trade, and what changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.formatting import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tbot_core.journal.events.sessions import Ready


def ready_remarks(ready: Ready) -> list[str]:
    """The remarks of a READY event as sentences; none where every signal may be traded, and in older journals."""
    return [*_unknown_vix(ready), *ready.series, *_denied_shorts(ready), *_not_shortable(ready)]


def vix_text(ready: Ready) -> str:
    """The VIX of a READY event with its day and source, as `VIX 16.2 of 2026-12-01 (cboe)`.

    "" where it is asked for live, and in older journals; some of these lack the day and the source.
    """
    if not ready.states("vix"):
        return ""
    if ready.vix is None:
        return "VIX unknown"
    day = f" of {ready.vix_day} ({ready.vix_source})" if ready.vix_day else ""
    return f"VIX {ready.vix:g}{day}"


def _unknown_vix(ready: Ready) -> Iterator[str]:
    if unknown := ready.vix_unknown:
        live = ", or VIX_SOURCE=live" if ready.mode == "live" else ""
        yield (
            f"VIX close of {unknown.day} unknown: no entries by {', '.join(unknown.strategies)}. "
            f"`tbot data download vix` and a new start supply it, or DATA_SOURCE with the VIX{live}."
        )


def _denied_shorts(ready: Ready) -> Iterator[str]:
    if not (denied := ready.shorts_denied):
        return
    count, parts = denied.sessions, []
    for short_type in sorted({shorts.short_type for shorts in denied.strategies}):
        strategies = [shorts for shorts in denied.strategies if shorts.short_type == short_type]
        listed = ", ".join(f"{shorts.strategy} {shorts.denied}" if count else shorts.strategy for shorts in strategies)
        parts.append(f"{listed} ({short_type} is not available)")
    what = f"denied in the last {plural(count, 'session')}" if count else "are denied"
    settings = ", ".join(f"SHORT_TYPE_{shorts.strategy.upper()}" for shorts in denied.strategies)
    yield f"Short signals {what}: {', '.join(parts)}; see {settings}."


def _not_shortable(ready: Ready) -> Iterator[str]:
    for reason, symbols in sorted(ready.not_shortable.items()):
        yield f"{reason}: no short sales of {plural(len(symbols), 'symbol')}: {first_names(symbols)}."
