"""What the filter compares: limits at their edges, what is unknown, funds, and days before a report."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import pytest
from tbot_filter_finnhub import NEEDS, Config, FinnhubCredentials, create, tbot_filter
from tbot_filter_finnhub.parse import day_number

from tbot_core.contracts import Context, SupportsRefresh
from tbot_core.contracts.credentials import secret_fields
from tbot_core.contracts.setting import declarations
from tbot_core.contracts.settings import EntrySettings, StrategySettings
from tbot_core.instance.plugin_settings import known_plugins
from tbot_core.model.reasons import Reason
from tbot_core.testing.filter import FilterContract
from tbot_core.testing.sessions import day

if TYPE_CHECKING:
    from pathlib import Path

    from tbot_filter_finnhub.filter import FinnhubFilter

    from tbot_core.contracts import Check
    from tbot_core.model.day_facts import DayFacts

NAN = float("nan")
FRAME = StrategySettings()
OK, DENIED, UNKNOWN = Reason.ALLOWED, Reason.SCREEN_DENIED, Reason.SCREEN_UNKNOWN


def made(folder: Path, **settings: Any) -> FinnhubFilter:
    """The filter as a simulation creates it: without a key and without a network."""
    return create(Config(**settings), Context(clock=None, log=None, data_dir=folder))  # type: ignore[arg-type]  # unused


def outcomes(subject: FinnhubFilter, facts: DayFacts, *symbols: str) -> dict[str, list[Reason]]:
    """What each comparison says of each symbol where unknown denies."""
    return {check.name: outcome(check) for check in subject.screen(facts, symbols, FRAME)}


def outcome(check: Check) -> list[Reason]:
    """What a comparison says of each row where unknown denies."""
    said = np.full(check.value.shape, OK, dtype=object)
    said[check.value < (-np.inf if check.low is None else check.low)] = check.below
    said[check.value > (np.inf if check.high is None else check.high)] = check.above
    said[np.isnan(check.value)] = check.unknown
    if check.funds is not None:
        said[check.funds] = OK
    reasons: list[Reason] = said.tolist()
    return reasons


class TestContract(FilterContract):
    """The filter keeps the contract with every comparison on."""

    @pytest.fixture
    def subject(self, tmp_path: Path) -> FinnhubFilter:
        """Dates of reports included, and one of the kit's symbols a fund."""
        return attrs.evolve(made(tmp_path, earnings_blackout=True), funds=frozenset({"S004"}))


def test_ratios_include_their_limits(tmp_path: Path) -> None:
    """Equal to MAX_PE_RATIO and MAX_DEBT_EQUITY passes; more is denied, and unknown has its own code."""
    facts = day(4, recorded={"pe_ratio": [30.0, 30.01, NAN, 1.0], "debt_to_equity": [0.0, 1.5, 1.51, NAN]})
    found = outcomes(made(tmp_path, max_pe_ratio=30.0, max_debt_equity=1.5), facts, "A", "B", "C", "D")
    assert found == {"P/E": [OK, DENIED, UNKNOWN, OK], "debt to equity": [OK, OK, DENIED, UNKNOWN]}


def test_words_name_the_setting(tmp_path: Path) -> None:
    """With its value, as `tbot why` quotes them; what is unknown passes or not by FILTER_MISSING_DATA."""
    checks = made(tmp_path, max_pe_ratio=30.0, earnings_blackout=True).screen(day(1), ("A",), FRAME)
    assert [check.words for check in checks] == [
        "P/E is above MAX_PE_RATIO=30, or unknown.",
        "debt to equity is above MAX_DEBT_EQUITY=2.5, or unknown.",
        "EARNINGS_BLACKOUT: a report is due today or on the next weekday, or its date is unknown.",
    ]
    assert not any(check.required for check in checks)


@pytest.mark.parametrize(
    ("session", "report", "reason"),
    [
        ("2026-11-24", "2026-11-24", DENIED),
        ("2026-11-24", "2026-11-25", DENIED),
        ("2026-11-24", "2026-11-26", OK),
        ("2026-11-24", "2026-11-23", OK),
        ("2026-11-23", "2026-11-22", OK),
        ("2026-11-20", "2026-11-23", DENIED),
        ("2026-11-20", "2026-11-21", DENIED),
        ("2026-11-19", "2026-11-23", OK),
        ("2026-11-24", None, UNKNOWN),
        ("NaT", "2026-11-24", UNKNOWN),
    ],
)
def test_no_entry_on_the_day_of_a_report_and_the_day_before(
    tmp_path: Path, session: str, report: str | None, reason: Reason
) -> None:
    """The day before is a weekday: before a report on Monday it is Friday. A report that is past denies nothing."""
    number = NAN if report is None else day_number(dt.date.fromisoformat(report))
    facts = day(1, date=session, recorded={"earnings_date": number})
    assert outcomes(made(tmp_path, earnings_blackout=True), facts, "A")["days to earnings"] == [reason]
    assert "days to earnings" not in outcomes(made(tmp_path), facts, "A")


def test_funds_have_no_fundamentals(tmp_path: Path) -> None:
    """What the source calls a fund, and of an unknown kind what the table lists; the table can be one's own."""
    facts = attrs.evolve(day(4), fund=np.array([1.0, 0.0, NAN, NAN]))
    subject = made(tmp_path, earnings_blackout=True)
    found = outcomes(subject, facts, "XYZ", "QQQ", "SPY", "ABC")
    assert all(said == [OK, UNKNOWN, OK, UNKNOWN] for said in found.values())
    assert len(found) == 3
    (tmp_path / "funds.csv").write_text("symbol,name\nABC,A fund\n")
    assert outcomes(made(tmp_path), day(2), "SPY", "ABC")["P/E"] == [UNKNOWN, OK]


def test_it_declares_what_it_fetches(tmp_path: Path) -> None:
    """Facts of companies hold for a week; dates of reports are fetched with EARNINGS_BLACKOUT, and hold three days."""
    subject = made(tmp_path)
    assert isinstance(subject, SupportsRefresh)
    assert subject.facts == {"pe_ratio": 7, "debt_to_equity": 7, "market_cap": 7}
    assert made(tmp_path, earnings_blackout=True).facts == {**subject.facts, "earnings_date": 3}


def test_the_offer_is_the_plugin() -> None:
    """Its name, its one host with the vendor's limit, and its secrets."""
    offer = tbot_filter()
    assert (offer.name, offer.config, offer.tables) == ("finnhub", Config, ("funds.csv",))
    assert offer.needs.sentence("x") == "secrets screener_api; hosts finnhub.io"
    assert {name: host.requests_per_minute for name, host in NEEDS.hosts.items()} == {"api": 60}


def test_its_settings_and_secrets_are_those_that_the_core_knows() -> None:
    """A file is judged in the same way before and after the plugin is installed."""
    (known,) = (one for one in known_plugins() if (one.kind, one.name) == ("filter", "finnhub"))
    mine = {one.name: one for one in declarations(Config).values()}
    shared = {one.name: one for one in declarations(EntrySettings).values()}
    assert mine == {**known.settings, "EARNINGS_BLACKOUT": shared["EARNINGS_BLACKOUT"]}
    fields, others = secret_fields(FinnhubCredentials), known.secrets["screener_api"]
    assert {name: attrs.evolve(one, kind=others[name].kind) for name, one in fields.items()} == others
    assert [one.kind.name for one in fields.values()] == [one.kind.name for one in others.values()]
