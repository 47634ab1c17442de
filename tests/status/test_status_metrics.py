"""The figures of a bot for a monitoring system."""

from __future__ import annotations

import re
from typing import Any

from tbot_core.status.metrics import metrics_text

STATUS: dict[str, Any] = {
    "running": True,
    "in_session": True,
    "state": "defense",
    "equity": "100012.50",
    "day_pnl": "-3.20",
    "daily_loss_limit": "5000.00",
    "daily_loss_used": "0.0006",
    "gross": None,
    "positions": [{}, {}],
    "orders": [],
    "confirmations": 1,
    "feed": {"age_s": 1.5, "lost_minutes": 0},
    "alert_channels": [{"name": 'a "b"\\', "waiting": 3, "failing": True}],
    "accounts": [{"broker": "alpaca", "latency_s": 0.041}, {"broker": "other", "latency_s": None}],
    "attention": ["look"],
    "disk_free_bytes": 73_397_678_080,
}
LINE = re.compile(r'tbot_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? -?[0-9.]+')


def test_each_figure_is_a_line_with_its_meaning() -> None:
    """In the text format: help, type, samples; text in labels is escaped."""
    text = metrics_text(STATUS, "1.0.0")
    lines = text.splitlines()
    assert text.endswith("\n")
    assert all(LINE.fullmatch(line) for line in lines if not line.startswith("# "))
    for line in (
        'tbot_build_info{version="1.0.0"} 1',
        "tbot_running 1",
        "tbot_equity_usd 100012.50",
        "tbot_day_pnl_usd -3.20",
        "tbot_daily_loss_used_ratio 0.0006",
        "tbot_positions 2",
        "tbot_working_orders 0",
        'tbot_state{state="normal"} 0',
        'tbot_state{state="defense"} 1',
        "tbot_data_age_seconds 1.5",
        'tbot_alerts_waiting{channel="a \\"b\\"\\\\"} 3',
        'tbot_alert_channel_failing{channel="a \\"b\\"\\\\"} 1',
        'tbot_broker_latency_seconds{broker="alpaca"} 0.041',
        "tbot_disk_free_bytes 73397678080",
    ):
        assert line in lines
    named = [line.split(" ")[2] for line in lines if line.startswith("# TYPE ")]
    assert len(named) == len(set(named))


def test_what_is_not_known_is_left_out() -> None:
    """A zero would be a claim."""
    text = metrics_text(STATUS, "1.0.0")
    assert "tbot_gross_usd" not in text
    assert "other" not in text
    assert metrics_text({}, "1.0.0").splitlines()[-1] == 'tbot_state{state="halted"} 0'
