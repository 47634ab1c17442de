"""What a person should know of a session that is ready: signals that it will not trade, and what changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tbot_core.model.formatting import first_names, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


def ready_remarks(payload: Mapping[str, Any]) -> list[str]:
    """The remarks of a READY event as sentences; none where every signal may be traded, and in older journals."""
    return [*_unknown_vix(payload), *payload.get("series", ()), *_denied_shorts(payload), *_not_shortable(payload)]


def vix_text(payload: Mapping[str, Any]) -> str:
    """The VIX of a READY event with its day and source, as `VIX 16.2 of 2026-12-01 (cboe)`.

    Older journals lack day and source.
    """
    value = payload["vix"]
    if value is None:
        return "VIX unknown"
    day = f" of {payload['vix_day']} ({payload['vix_source']})" if "vix_day" in payload else ""
    return f"VIX {value:g}{day}"


def _unknown_vix(payload: Mapping[str, Any]) -> Iterator[str]:
    if unknown := payload.get("vix_unknown"):
        live = ", or VIX_SOURCE=live" if payload.get("mode") == "live" else ""
        yield (
            f"VIX close of {unknown['day']} unknown: no entries by {', '.join(unknown['strategies'])}. "
            f"`tbot data download vix` and a new start supply it, or DATA_SOURCE with the VIX{live}."
        )


def _denied_shorts(payload: Mapping[str, Any]) -> Iterator[str]:
    if not (denied := payload.get("shorts_denied")):
        return
    count, parts = denied["sessions"], []
    for short_type in sorted({one["short_type"] for one in denied["strategies"]}):
        named = [one for one in denied["strategies"] if one["short_type"] == short_type]
        listed = ", ".join(f"{one['strategy']} {one['denied']}" if count else one["strategy"] for one in named)
        parts.append(f"{listed} ({short_type} is not available)")
    what = f"denied in the last {plural(count, 'session')}" if count else "are denied"
    settings = ", ".join(f"SHORT_TYPE_{one['strategy'].upper()}" for one in denied["strategies"])
    yield f"Short signals {what}: {', '.join(parts)}; see {settings}."


def _not_shortable(payload: Mapping[str, Any]) -> Iterator[str]:
    for reason, symbols in sorted(payload.get("not_shortable", {}).items()):
        yield f"{reason}: no short sales of {plural(len(symbols), 'symbol')}: {first_names(symbols)}."
