"""The settings in groups, as the reference has them."""

from __future__ import annotations

from tbot_core.contracts.setting import DeclaredConfig
from tbot_core.instance import examine_settings
from tbot_core.instance.registry import GROUPS, setting_groups


def test_each_setting_is_in_one_group() -> None:
    """The core's first, then each strategy with its own variables, then the other plugins."""
    declared = [DeclaredConfig(kind="filter", name="quiet")]
    values = examine_settings("nowhere", mode="demo", declared=declared).values
    groups = setting_groups(values)
    named = [name for group in groups for name in group.variables]
    assert sorted(named) == sorted(values)
    names = [group.name for group in groups]
    assert names[: len(GROUPS)] == list(GROUPS)
    by_name = {group.name: group for group in groups}
    assert by_name["risk"].title == "Risk"
    assert "DAILY_LOSS_LIMIT" in by_name["risk"].variables
    assert "STRAT_OPEN_ENABLED" in by_name["strategy-open"].variables
    assert by_name["strategy-open"].title == "Strategy open"
    assert by_name["broker-alpaca"].doc == "Settings that the broker alpaca reads."
    assert "filter-quiet" not in by_name
