"""`tbot options price`: the valuation, what stored bars supply, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import attrs
import pytest
from tbot_filter_black_scholes.command import option_contract, stored_prices

from tbot_core import cli
from tbot_core.contracts import OptionContract, OptionRequest, OptionRight
from tbot_core.contracts.settings import DeploymentSettings
from tbot_core.errors import UsageError
from tbot_core.instance import Instance
from tbot_core.instance.secrets import encrypt_category, open_instance_vault
from tbot_core.model.calendar import ExchangeCalendar
from tbot_core.model.formatting import MINUS
from tbot_core.testing.store import StoreFixture, exchange_sessions, rising_bars

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "STRATEGY_SEQUENCE=open\nSTART_TIME_OPEN=14:30\nENABLE_BSM_FILTER=true\n"
MARKET = ("--spot", "100", "--volatility", "0.3", "--rate", "0.04", "--dividend-yield", "0.01")
CALENDAR = ExchangeCalendar()
EXPIRY = CALENDAR.sessions(*((datetime.now(UTC) + timedelta(days=days)).date() for days in (40, 50)))[0].date


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An instance whose settings enable an options model."""
    (tmp_path / ".env_bot").write_text(SETTINGS)
    return tmp_path


def price(home: Path, *words: str, expiry: object = EXPIRY) -> int:
    """Price a put at 100."""
    return cli.invoke(["options", "price", "aapl", str(expiry), "100", "put", *words, "--home", str(home)])


def test_a_priced_option_shows_model_market_deviation_and_verdict(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With each input and its source; the same as one document with --json."""
    assert price(home, *MARKET, "--bid", "3.7", "--ask", "3.9", "--style", "european", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "accepted"
    assert found["market"] == pytest.approx(3.8)
    assert found["deviation"] == pytest.approx((found["market"] - found["model"]) / found["model"])
    assert (found["filter"], found["limit"], found["missing"], found["note"]) == ("black_scholes", 0.15, [], "")
    assert found["contract"] | {"expires": ""} == {
        "underlying": "AAPL",
        "expiry": EXPIRY.isoformat(),
        "strike": 100.0,
        "right": "put",
        "expires": "",
    }
    sources = {one["name"]: one["source"] for one in found["inputs"]}
    assert {name: source for name, source in sources.items() if name != "years"} == dict.fromkeys(
        ("spot", "rate", "dividend yield", "style", "volatility"), "given"
    )
    assert price(home, *MARKET, "--bid", "3.4", "--ask", "3.6") == 0
    said = capsys.readouterr().out
    assert said.startswith(f"AAPL {EXPIRY} 100 put by black_scholes\n  model ")
    for words in (
        f"  deviation           {MINUS}",
        "  implied volatility  ",
        "ACCEPTED: the middle of the quote is",
        "BSM_EXERCISE",
    ):
        assert words in said


def test_a_quote_far_from_the_model_is_rejected(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict is an answer, not a failure: exit 0."""
    assert price(home, *MARKET, "--bid", "9", "--ask", "9.2") == 0
    assert "REJECTED: the middle of the quote is" in capsys.readouterr().out


def test_what_is_missing_is_named_with_its_option(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without bars there is neither spot nor volatility: exit 1, and each is named with the option that gives it."""
    assert price(home) == 1
    said = capsys.readouterr().out
    assert "UNKNOWN: no price of AAPL is known; 21 daily closes are needed, 0 are known" in said
    assert "Missing: spot (give --spot PRICE)." in said
    assert "Missing: volatility (give --volatility FRACTION)." in said
    assert "No bars of AAPL are stored: `tbot data download --symbols AAPL` gets them" in said
    assert price(home, *MARKET) == 0
    said = capsys.readouterr().out
    assert "Missing: quote (give --bid PRICE --ask PRICE)." in said
    assert "No bars" not in said


def test_one_side_of_a_quote_is_no_quote(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bid alone has no verdict, with the reason."""
    assert price(home, *MARKET, "--bid", "3.7") == 0
    assert "UNKNOWN: the quote has no ask" in capsys.readouterr().out


def test_a_dynamic_rate_is_that_of_the_identitys_jurisdiction(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the table that the operator imported, else RISK_FREE_RATE where it has none of that jurisdiction."""
    (home / ".env_bot").write_text(f"{SETTINGS}RISK_FREE_RATE_SOURCE=dynamic\n")
    vault = open_instance_vault(Instance(home), DeploymentSettings())
    encrypt_category(vault, "bot_identity", b'{"BOT_IDENTITY_STRING": "ACME_CA_PAPER_B01"}')
    sources = []
    for code in ("CA", "XX"):
        table = home / "new.csv"
        table.write_text(f"code,date,rate,source\n{code},2026-01-01,0.03,Bank\n")
        assert cli.invoke(["data", "import", "rates", str(table), "--home", str(home)]) == 0
        capsys.readouterr()
        assert price(home, "--spot", "100", "--volatility", "0.3", "--json") == 0
        inputs = json.loads(capsys.readouterr().out)["inputs"]
        sources += [(one["value"], one["source"]) for one in inputs if one["name"] == "rate"]
    assert sources == [
        (0.03, "rates.csv, CA since 2026-01-01: Bank"),
        (0.045, "RISK_FREE_RATE, since the table has no rate of CA"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--spot", "nan"), "nan is not a finite number."),
        (("--bid", "-1"), "-1 is not a number from 0 to 1,000,000."),
        (("--volatility", "inf"), "inf is not a finite number."),
        (("--rate", "x"), "'x' is not a valid float"),
    ],
)
def test_what_is_no_number_is_wrong_usage(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    """Not finite, out of range or no number: exit 2."""
    assert price(home, *words) == 2
    assert message in capsys.readouterr().err


def test_the_bounds_of_a_volatility_are_those_of_the_model(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is one bound, which the model names."""
    assert price(home, *MARKET, "--volatility", "50") == 1
    assert "UNKNOWN: the volatility 50 is not from 0.001 to 5" in capsys.readouterr().out


def test_an_expiry_without_a_session_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The day that the price is for is named."""
    saturday = EXPIRY + timedelta(days=(5 - EXPIRY.weekday()) % 7)
    assert price(home, *MARKET, expiry=saturday) == 0
    last = CALENDAR.sessions(EXPIRY, saturday)[-1].date
    words = f"{saturday} has no session: the option is priced to the close of the session before, {last}."
    assert words in capsys.readouterr().out


def test_a_symbol_and_an_expiry_are_checked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither another text nor a year beyond the calendar is priced: exit 2."""
    assert cli.invoke(["options", "price", "A L", "2030-01-18", "100", "put", "--home", str(home)]) == 2
    assert "'A L' is not a symbol." in capsys.readouterr().err
    assert price(home, expiry="2250-01-18") == 2
    assert "The expiry 2250-01-18 is outside the calendar." in capsys.readouterr().err


def test_without_an_options_model_the_setting_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No enabled filter prices options: exit 3."""
    (home / ".env_bot").write_text(SETTINGS.replace("true", "false"))
    assert price(home) == 3
    said = capsys.readouterr().err
    assert "No enabled filter prices options." in said
    assert "switch it on, as with ENABLE_BSM_FILTER=true." in said
    (home / ".env_bot").write_text(f"{SETTINGS}FILTERS=-black_scholes\n")
    assert price(home) == 3
    assert "Off by FILTERS: black_scholes (checks of option prices)." in capsys.readouterr().err


def test_a_contract_expires_at_the_close_of_its_last_session() -> None:
    """A half day closes early; on a day without a session the one before counts."""
    closes = {
        date(2024, 6, 21): datetime(2024, 6, 21, 20, 0, tzinfo=UTC),
        date(2024, 11, 29): datetime(2024, 11, 29, 18, 0, tzinfo=UTC),
        date(2024, 3, 29): datetime(2024, 3, 28, 20, 0, tzinfo=UTC),
    }
    for expiry, expires in closes.items():
        assert option_contract("SPY", expiry, 100.0, OptionRight.PUT, CALENDAR).expires == expires
    with pytest.raises(UsageError, match="outside the calendar"):
        option_contract("SPY", date(1850, 1, 1), 100.0, OptionRight.PUT, CALENDAR)


@pytest.fixture
def request_of_january() -> OptionRequest:
    """A put, on the afternoon of 2020-01-06."""
    expires = datetime(2020, 2, 21, 21, 0, tzinfo=UTC)
    contract = OptionContract(
        underlying="AAA", expiry=expires.date(), expires=expires, strike=100.0, right=OptionRight.PUT
    )
    return OptionRequest(contract=contract, at=datetime(2020, 1, 6, 19, 0, tzinfo=UTC))


def test_stored_bars_supply_spot_and_closes(tmp_path: Path, request_of_january: OptionRequest) -> None:
    """The close of the last closed session, and the 21 closes to it; a spot that is given stays."""
    store = StoreFixture(folder=tmp_path / "data")
    store.folder.mkdir()
    store.put(rising_bars("AAA", exchange_sessions("2019-11-27", "2020-01-06")))
    found, note = stored_prices(Instance(tmp_path), CALENDAR, request_of_january)
    assert (found.spot, found.spot_source) == (103.9, "stored bars, close of 2020-01-03")
    assert (len(found.closes), found.closes_source, note) == (21, "stored bars to 2020-01-03", "")
    given = attrs.evolve(request_of_january, spot=99.0)
    found, note = stored_prices(Instance(tmp_path), CALENDAR, given)
    assert (found.spot, found.spot_source, len(found.closes), note) == (99.0, "", 21, "")


def test_older_bars_supply_nothing(tmp_path: Path, request_of_january: OptionRequest) -> None:
    """Bars that end before the last closed session are named with their end: an old price is not the price."""
    store = StoreFixture(folder=tmp_path / "data")
    store.folder.mkdir()
    store.put(rising_bars("AAA", exchange_sessions("2019-11-27", "2020-01-02")))
    found, note = stored_prices(Instance(tmp_path), CALENDAR, request_of_january)
    assert found == request_of_january
    assert note.startswith("The stored bars of AAA end on 2020-01-02, the last session was on 2020-01-03: `tbot data")
