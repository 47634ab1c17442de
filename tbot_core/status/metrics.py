"""The figures of a bot in the text format of Prometheus, from its status document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tbot_core.model.types import RiskState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tbot_core.status import Document

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_Sample = tuple["Mapping[str, str]", Any]


def metrics_text(status: Document, version: str) -> str:
    """The figures, one metric after the other; what is not known is left out."""
    lines: list[str] = []
    for name, meaning, samples in _metrics(status, version):
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            lines += [f"# HELP tbot_{name} {meaning}", f"# TYPE tbot_{name} gauge"]
            lines += [f"tbot_{name}{_labels(labels)} {_number(value)}" for labels, value in known]
    return "\n".join([*lines, ""])


def _metrics(status: Document, version: str) -> Iterator[tuple[str, str, Iterable[_Sample]]]:
    feed = status.get("feed") or {}
    yield "build_info", "The version that serves these figures.", [({"version": version}, 1)]
    yield "running", "Whether a bot runs.", [({}, status.get("running"))]
    yield "in_session", "Whether a session is open.", [({}, status.get("in_session"))]
    state = status.get("state")
    yield (
        "state",
        "The risk state: 1 for the present one.",
        [({"state": it.word}, it.word == state) for it in RiskState],
    )
    for name, meaning in _FIGURES.items():
        yield name, meaning, [({}, status.get(name.removesuffix("_usd").removesuffix("_ratio")))]
    yield "positions", "Open positions.", [({}, _count(status, "positions"))]
    yield "working_orders", "Working orders.", [({}, _count(status, "orders"))]
    yield "confirmations", "Entries that wait for a person.", [({}, status.get("confirmations"))]
    yield "data_age_seconds", "Age of the latest data of the market.", [({}, feed.get("age_s"))]
    yield "data_lost_minutes", "Minutes without data in this session.", [({}, feed.get("lost_minutes"))]
    channels = status.get("alert_channels", ())
    yield (
        "alerts_waiting",
        "Alerts that wait for delivery.",
        [({"channel": channel["name"]}, channel["waiting"]) for channel in channels],
    )
    failing = [({"channel": channel["name"]}, channel["failing"]) for channel in channels]
    yield "alert_channel_failing", "Whether the latest delivery failed.", failing
    latencies = [({"broker": account["broker"]}, account["latency_s"]) for account in status.get("accounts", ())]
    yield "broker_latency_seconds", "Time in which the broker answered last.", latencies
    yield "attention", "Matters that need a person.", [({}, _count(status, "attention"))]
    yield "disk_free_bytes", "Free space on the disk of the instance.", [({}, status.get("disk_free_bytes"))]


_FIGURES: Final = {
    "equity_usd": "Equity of the account.",
    "day_pnl_usd": "Profit and loss of the session.",
    "daily_loss_limit_usd": "Loss of the session that closes everything.",
    "daily_loss_used_ratio": "Share of that loss which is reached.",
    "gross_usd": "Cost of all positions.",
}


def _count(status: Document, name: str) -> int | None:
    return len(status[name]) if name in status else None


def _labels(labels: Mapping[str, str]) -> str:
    shown = ",".join(f'{name}="{value.translate(_ESCAPED)}"' for name, value in labels.items())
    return f"{{{shown}}}" if shown else ""


def _number(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
