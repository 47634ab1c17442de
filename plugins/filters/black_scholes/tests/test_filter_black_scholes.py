"""Filter black_scholes: its contract, the inputs of a valuation with their sources, chains, rates, and real quotes."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import attrs
import polars as pl
import pytest
import structlog
from tbot_filter_black_scholes import BlackScholes, Config, tbot_filter
from tbot_filter_black_scholes.pricing import realised_volatility
from tbot_filter_black_scholes.rates import RateTable, parse

from tbot_core.contracts import Context, ExerciseStyle, OptionQuote, OptionRequest, OptionRight, OptionVerdict
from tbot_core.errors import SettingsError
from tbot_core.testing.filter import FilterContract, option_request

if TYPE_CHECKING:
    from pathlib import Path

RATES = parse("code,date,rate,source\nUS,2024-01-01,0.05,Federal Reserve\n", "rates.csv")
CLOSES = tuple(100.0 + number % 3 for number in range(21))
MODEL = BlackScholes(config=Config(), rates=RATES)


class TestContract(FilterContract):
    """The filter keeps the contract; it compares nothing of stocks."""

    @pytest.fixture
    def subject(self) -> BlackScholes:
        """The filter with its defaults."""
        return MODEL


def _inputs(request: OptionRequest, subject: BlackScholes = MODEL) -> dict[str, tuple[float | str, str]]:
    return {one.name: (one.value, one.source) for one in subject.value_option(request).inputs}


def _dynamic(jurisdiction: str, rates: RateTable = RATES) -> BlackScholes:
    return BlackScholes(config=Config(rate_source="dynamic"), rates=rates, jurisdiction=jurisdiction)


def test_the_library_is_imported_by_a_price_alone() -> None:
    """Importing the package and describing the plugin does not import QuantLib."""
    program = "import sys, tbot_filter_black_scholes as it; it.tbot_filter(); sys.exit('QuantLib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_valuation_names_every_input_and_its_source() -> None:
    """Model, market, deviation and verdict, with the origin of each input; the settings supply what is not given."""
    request = attrs.evolve(option_request(), volatility=None, closes=CLOSES, closes_source="stored bars")
    found = MODEL.value_option(request)
    assert {one.name: (one.value, one.source) for one in found.inputs} == {
        "spot": (100.0, "test"),
        "years": (pytest.approx(30.2083 / 365, abs=1e-6), "to 2024-06-21 16:00 New York, 365 days"),
        "rate": (0.045, "RISK_FREE_RATE"),
        "dividend yield": (0.0, "assumed: none is given"),
        "style": ("american", "BSM_EXERCISE"),
        "volatility": (realised_volatility(CLOSES), "20 daily returns, stored bars"),
    }
    assert found.model is not None
    assert found.market == pytest.approx(2.7)
    assert found.deviation == pytest.approx((2.7 - found.model) / found.model)
    assert (found.limit, found.missing) == (0.15, ())


def test_what_a_request_gives_replaces_the_models_own() -> None:
    """Volatility, rate, dividend yield and style of the request are used and marked as given."""
    request = attrs.evolve(
        option_request(), rate=0.01, dividend_yield=0.03, style=ExerciseStyle.EUROPEAN, spot_source=""
    )
    found = _inputs(request)
    assert {name: found[name] for name in ("spot", "rate", "dividend yield", "style", "volatility")} == {
        "spot": (100.0, "given"),
        "rate": (0.01, "given"),
        "dividend yield": (0.03, "given"),
        "style": ("european", "given"),
        "volatility": (0.25, "given"),
    }


def test_the_implied_volatility_of_the_market_is_shown() -> None:
    """It gives the middle of the quote again; a quote below the option's least value implies none."""
    request = option_request()
    found = MODEL.value_option(request)
    assert found.implied_volatility is not None
    again = MODEL.value_option(attrs.evolve(request, volatility=found.implied_volatility))
    assert again.model == pytest.approx(2.7)
    cheap = attrs.evolve(
        request, contract=attrs.evolve(request.contract, strike=150.0), quote=OptionQuote(bid=40.0, ask=41.0)
    )
    assert MODEL.value_option(cheap).implied_volatility is None


@pytest.mark.parametrize(
    ("changes", "missing", "words"),
    [
        ({"spot": None}, ("spot",), "no price of SPY is known"),
        ({"volatility": None}, ("volatility",), "21 daily closes are needed, 0 are known"),
        ({"spot": None, "volatility": None}, ("spot", "volatility"), "no price of SPY is known; 21 daily closes"),
        ({"spot": -1.0}, (), "the spot -1 is not above 0"),
        ({"volatility": 9.0}, (), "the volatility 9 is not from"),
        ({"rate": 2.0}, (), "the rate 2 is not from"),
        ({"at": datetime(2025, 1, 1, tzinfo=UTC)}, (), "the contract expired on 2024-06-21"),
    ],
)
def test_without_an_input_there_is_no_price(changes: dict[str, Any], missing: tuple[str, ...], words: str) -> None:
    """What is missing is named, all at once; the reason says what is wrong."""
    found = MODEL.value_option(attrs.evolve(option_request(), **changes))
    assert (found.verdict, found.model, found.missing) == (OptionVerdict.UNKNOWN, None, missing)
    assert words in found.reason


def test_a_price_needs_no_quote() -> None:
    """Without a quote the model's price is shown, and the quote is named as missing."""
    found = MODEL.value_option(attrs.evolve(option_request(), quote=None))
    assert (found.verdict, found.missing, found.reason) == (OptionVerdict.UNKNOWN, ("quote",), "there is no quote")
    assert found.model is not None


def _chain(request: OptionRequest, volatilities: dict[float, float | None]) -> OptionRequest:
    # Quotes of strikes by the volatilities that they imply; None is an empty quote.
    chain = []
    for strike, volatility in volatilities.items():
        contract, quote = attrs.evolve(request.contract, strike=strike), OptionQuote()
        if volatility is not None:
            model = MODEL.value_option(
                attrs.evolve(request, contract=contract, volatility=volatility, quote=None)
            ).model
            assert model is not None
            quote = OptionQuote(bid=model - 0.001, ask=model + 0.001)
        chain.append((contract, quote))
    return attrs.evolve(request, volatility=None, chain=tuple(chain))


CHAINED = BlackScholes(config=Config(volatility="chain"), rates=RATES)


@pytest.mark.parametrize(
    ("volatilities", "expected", "strikes"),
    [
        ({90.0: 0.34, 95.0: 0.3, 100.0: 0.9, 105.0: 0.26, 110.0: 0.24}, 0.28, "90, 95, 105, 110"),
        ({80.0: 0.9, 90.0: 0.34, 95.0: 0.3, 105.0: 0.26, 110.0: 0.24, 120.0: 0.1}, 0.28, "90, 95, 105, 110"),
        ({90.0: 0.34, 95.0: None, 105.0: 0.26}, 0.3, "90, 105"),
        ({105.0: 0.26, 110.0: 0.24, 115.0: 0.2}, 0.25, "105, 110"),
    ],
)
def test_f6_the_volatility_of_a_chain_is_the_median_of_its_neighbours(
    volatilities: dict[float, float | None], expected: float, strikes: str
) -> None:
    """Two strikes on each side count, without the contract's own; one that implies nothing is passed over."""
    value, source = _inputs(_chain(option_request(), volatilities), CHAINED)["volatility"]
    assert value == pytest.approx(expected, abs=1e-4)
    assert source == f"median implied of strikes {strikes}"


@pytest.mark.parametrize(
    ("changes", "quote"),
    [
        ({}, OptionQuote(bid=2.0, ask=1.0)),
        ({}, OptionQuote(bid=0.0, ask=1.0)),
        ({}, OptionQuote(bid=1.0, ask=1.1, age_s=60.0)),
        ({"expiry": date(2024, 7, 19)}, OptionQuote(bid=1.0, ask=1.1)),
        ({"right": OptionRight.CALL}, OptionQuote(bid=1.0, ask=1.1)),
        ({"underlying": "QQQ"}, OptionQuote(bid=1.0, ask=1.1)),
    ],
)
def test_f6_unsound_quotes_of_a_chain_do_not_count(changes: dict[str, Any], quote: OptionQuote) -> None:
    """Crossed, empty and stale quotes, and those of other contracts: with one sound strike left there is no price."""
    request = _chain(option_request(), {95.0: 0.3})
    other = attrs.evolve(request.contract, strike=105.0, **changes)
    found = CHAINED.value_option(attrs.evolve(request, chain=(*request.chain, (other, quote))))
    assert (found.model, found.missing) == (None, ("volatility",))
    assert found.reason == "1 neighbouring strikes have an implied volatility, 2 are needed"


def test_a_chain_without_a_spot_has_no_volatility() -> None:
    """Both are named."""
    request = attrs.evolve(_chain(option_request(), {95.0: 0.3, 105.0: 0.3}), spot=None)
    assert CHAINED.value_option(request).missing == ("spot", "volatility")


@pytest.mark.parametrize(
    ("subject", "day", "rate", "source", "words"),
    [
        (MODEL, date(2030, 1, 1), 0.045, "RISK_FREE_RATE", ""),
        (_dynamic("US"), date(2024, 3, 31), 0.05, "rates.csv, US since 2024-01-01: Federal Reserve", ""),
        (
            _dynamic("US"),
            date(2024, 4, 1),
            0.05,
            "rates.csv, US since",
            "is of 2024-01-01, 91 days old. `tbot data download rates`",
        ),
        (
            _dynamic("XX"),
            date(2024, 3, 1),
            0.045,
            "RISK_FREE_RATE, since the table has no rate of XX",
            "none of XX for",
        ),
        (_dynamic("US"), date(2023, 3, 1), 0.045, "RISK_FREE_RATE, since the table", "none of US for 2023-03-01"),
        (
            _dynamic(""),
            date(2024, 3, 1),
            0.045,
            "RISK_FREE_RATE, since the bot has no identity",
            "secrets set bot_identity",
        ),
    ],
)
def test_the_rate_is_static_or_that_of_the_jurisdiction(
    subject: BlackScholes, day: date, rate: float, source: str, words: str
) -> None:
    """A rate of the table over 90 days old is warned of; without one RISK_FREE_RATE is used, with a warning."""
    found, warning = subject.rate_at(day)
    assert found.value == rate
    assert found.source.startswith(source)
    assert words in warning
    assert bool(words) == bool(warning)


@attrs.frozen
class Noon:
    """A clock that always shows one moment."""

    moment: datetime

    def now(self) -> datetime:
        """That moment."""
        return self.moment


def _context(folder: Path, jurisdiction: str = "US") -> Context:
    clock: Any = Noon(datetime(2024, 5, 22, 15, 0, tzinfo=UTC))
    log = structlog.wrap_logger(logging.getLogger("test"))
    return Context(clock=clock, log=log, data_dir=folder, jurisdiction=jurisdiction)


def test_the_operators_table_replaces_the_shipped_one(tmp_path: Path) -> None:
    """A rates.csv in the data folder is read whole in place of the shipped table, and is named in Plugin.tables."""
    plugin, config = tbot_filter(), Config(rate_source="dynamic")
    shipped: Any = plugin.create(config, _context(tmp_path))
    assert shipped.rate_at(date(2023, 8, 1))[0].value == 0.05375
    (tmp_path / "rates.csv").write_text("code,date,rate,source\nUS,2023-01-01,0.01,own\n")
    own: Any = plugin.create(config, _context(tmp_path))
    assert (own.rate_at(date(2023, 8, 1))[0].value, own.jurisdiction) == (0.01, "US")
    assert plugin.tables == ("rates.csv",)
    (tmp_path / "rates.csv").write_text("code,date\n")
    with pytest.raises(SettingsError, match=r"rates\.csv:1: the header"):
        plugin.create(config, _context(tmp_path))


@pytest.mark.parametrize(("jurisdiction", "words"), [("US", "US"), ("XX", "none of XX"), ("", "no identity")])
def test_a_rate_that_is_old_or_unknown_is_warned_of(tmp_path: Path, jurisdiction: str, words: str) -> None:
    """`tbot check` gets one sentence; a fresh rate and a static one give none."""
    warnings = tbot_filter().warnings
    assert warnings is not None
    assert list(warnings(Config(), _context(tmp_path, jurisdiction))) == []
    (tmp_path / "rates.csv").write_text("code,date,rate,source\nUS,2024-01-01,0.05,own\n")
    (sentence,) = warnings(Config(rate_source="dynamic"), _context(tmp_path, jurisdiction))
    assert words in sentence


def test_a_downloaded_table_counts_before_the_shipped_one_and_after_the_operators(tmp_path: Path) -> None:
    """It replaces the codes that it has; the others are shipped, and a fresh rate is not warned of."""
    plugin, config = tbot_filter(), Config(rate_source="dynamic")
    context = attrs.evolve(_context(tmp_path), downloads_dir=tmp_path / "downloads")
    context.downloads_dir.mkdir()
    shipped: Any = plugin.create(config, context)
    other = next(code for code in shipped.rates.rates if code != "US")
    (context.downloads_dir / "rates.csv").write_text("code,date,rate,source\nUS,2024-05-22,0.0533,fred\n")
    made: Any = plugin.create(config, context)
    found, words = made.rate_at(date(2024, 5, 22))
    assert (found.value, found.source, words) == (0.0533, "rates.csv, US since 2024-05-22: fred", "")
    assert made.rates.rates[other] == shipped.rates.rates[other]
    (tmp_path / "rates.csv").write_text("code,date,rate,source\nUS,2024-05-01,0.02,own\n")
    own: Any = plugin.create(config, context)
    assert own.rate_at(date(2024, 5, 22))[0].value == 0.02


def test_real_quotes_of_a_chain_are_judged(shared: Path) -> None:
    """Chains of AMD and NVDA: a sound quote near the money implies a volatility that gives its price again."""
    table = pl.read_parquet(shared / "data" / "options" / "chain_snapshots_2025.parquet")
    judged = 0
    for row in table.filter((pl.col("bid") > 0.5) & (pl.col("vendor_delta").abs().is_between(0.2, 0.8))).to_dicts():
        expires = datetime.combine(row["expiry"], datetime.min.time(), UTC) + timedelta(hours=21)
        request = option_request()
        contract = attrs.evolve(
            request.contract,
            underlying=row["underlying"],
            expiry=row["expiry"],
            expires=expires,
            strike=row["strike"],
            right=OptionRight.CALL if row["right"] == "C" else OptionRight.PUT,
        )
        found = MODEL.value_option(
            attrs.evolve(
                request,
                contract=contract,
                at=row["ts"],
                spot=row["underlying_price"],
                volatility=row["vendor_iv"],
                quote=OptionQuote(bid=row["bid"], ask=row["ask"]),
            )
        )
        assert found.verdict is OptionVerdict.ACCEPTED, (row, found)
        judged += 1
    assert judged > 50
