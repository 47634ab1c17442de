"""The core's own settings as values."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from tbot_core.contracts import settings
from tbot_core.contracts.setting import SettingDeclaration, declarations

GROUPS = [getattr(settings, name) for name in settings.__all__]
DECLARED = [
    pytest.param(group, field, one, id=one.name) for group in GROUPS for field, one in declarations(group).items()
]


@pytest.mark.parametrize(("group", "field", "one"), DECLARED)
def test_a_field_is_called_like_its_variable(group: type[Any], field: str, one: SettingDeclaration) -> None:
    """Each variable leads to its value, and every one has a sentence of meaning."""
    if group is not settings.StrategySettings:
        assert one.name == field.upper()
    assert one.doc.endswith((".", ")."))
    assert one.doc[0].isupper()
    assert getattr(group(), field) == one.default


@pytest.mark.parametrize("group", GROUPS)
def test_every_field_is_a_setting(group: type[Any]) -> None:
    """No value of a group has another source than the settings."""
    assert list(declarations(group)) == [field.name for field in attrs.fields(group)]


def test_no_variable_is_declared_twice() -> None:
    """A variable has one owner, one kind and one default."""
    names = [one.name for group in GROUPS for one in declarations(group).values()]
    assert len(names) == len(set(names))


def test_fractions_are_exact() -> None:
    """Fractions that become money are Decimal."""
    kinds = set[str]()
    for group in GROUPS:
        for field, one in declarations(group).items():
            if one.kind.name in {"fraction", "percent", "money"} and one.default is not None:
                assert isinstance(getattr(group(), field), Decimal), one.name
                kinds.add(one.kind.name)
    assert kinds == {"fraction", "percent", "money"}


def test_the_defaults_are_those_of_the_contract() -> None:
    """A sample of the defaults that the product's contract states."""
    entries, exits, risk, simulation = (
        settings.EntrySettings(),
        settings.ExitSettings(),
        settings.RiskSettings(),
        settings.SimulationSettings(),
    )
    assert (entries.entry_order_type, entries.entry_ttl) == ("limit", 20.0)
    assert (entries.entry_limit_pct, entries.max_spread_pct) == (Decimal("0.002"), Decimal("0.003"))
    assert (exits.stop_loss_pct, exits.flatten_before_close, exits.stop_policy) == (Decimal("0.02"), 5, "keep")
    assert (risk.max_gross_exposure, risk.max_symbol_exposure, risk.max_orders_per_minute) == (Decimal("0.1"), None, 30)
    assert (simulation.fee_sell_bps, simulation.paper_cash) == (Decimal("0.278"), Decimal(100_000))
    assert settings.TradingSettings().broker_name == "paper"
    assert settings.StrategySettings().short_type == "disabled"
