"""The venue's market of options: values, contracts, quotes, and contracts that should not be bought."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest
from tbot_broker_alpaca.venue.exchange import MORNING
from tbot_broker_alpaca.venue.market import VenueMarket
from tbot_broker_alpaca.venue.option_pricing import OptionModel
from tbot_broker_alpaca.venue.options import Defect, OptionContract, OptionMarket

from tbot_core.model.clock import ManualClock

JANUARY = dt.date(2026, 1, 16)
"""The first expiry at least a week after the morning, which is a Monday."""


def market_at(moment: dt.datetime = MORNING, *, penny: bool = True, price: str = "20") -> VenueMarket:
    """A market in which AAPL trades at a price."""
    market = VenueMarket(ManualClock(moment), live_sip=False)
    market.list_symbol("AAPL", Decimal(price), 1_000_000)
    market.options.penny_classes["AAPL"] = penny
    return market


def january(options: OptionMarket, strike: str, kind: str = "P", root: str = "AAPL") -> OptionContract:
    """The contract of January with a strike."""
    found = options.find(f"{root}260116{kind}{int(Decimal(strike) * 1000):08d}")
    assert found is not None
    return found


@pytest.mark.parametrize(("call", "value"), [(True, 4.76), (False, 0.81)])
def test_an_option_has_the_value_of_the_textbook(call: bool, value: float) -> None:
    """Six months, a stock at 42, a strike of 40, 10 % interest and 20 % volatility: Hull's example."""
    model = OptionModel(volatility=0.20, rate=0.10)
    assert model.value(42, 40, 0.5, call=call) == pytest.approx(value, abs=0.005)


def test_the_greeks_are_those_of_the_textbook() -> None:
    """Twenty weeks, a stock at 49, a strike of 50: theta is a day's, vega and rho are a hundredth's."""
    found = OptionModel(volatility=0.20, rate=0.05).greeks(49, 50, 0.3846, call=True)
    expected = {"delta": 0.522, "gamma": 0.066, "rho": 0.0891, "theta": -4.31 / 365, "vega": 0.121}
    assert found == pytest.approx(expected, rel=0.01)


def test_the_greeks_of_a_put_follow_from_those_of_the_call() -> None:
    """Put-call parity: delta differs by one, gamma and vega not at all, rho by the strike's present value."""
    model = OptionModel(volatility=0.20, rate=0.05)
    call, put = (model.greeks(49, 50, 1.0, call=one) for one in (True, False))
    assert call["delta"] - put["delta"] == pytest.approx(1)
    assert (call["gamma"], call["vega"]) == (put["gamma"], put["vega"])
    assert call["rho"] - put["rho"] == pytest.approx(0.5 * 0.951229, rel=1e-5)


@pytest.mark.parametrize(("years", "value"), [(0.5, 30.0), (0.0, 30.0), (-0.1, 30.0)])
def test_an_option_is_worth_at_least_what_exercising_it_pays(years: float, value: float) -> None:
    """A put far in the money is not below the difference of strike and price, also once it has expired."""
    assert OptionModel().value(10, 40, years, call=False) == pytest.approx(value)


def test_expiries_are_fridays_of_a_month_and_third_fridays_after_it() -> None:
    """From Monday 5 January 2026: four Fridays within 30 days, 20 February, and the one of the week before."""
    chain = market_at().options.chain("AAPL")
    days = sorted({one.expires for one in chain})
    assert days == [
        dt.date(2026, 1, 2),
        *(dt.date(2026, 1, day) for day in (9, 16, 23, 30)),
        dt.date(2026, 2, 20),
    ]


def test_an_expiry_on_a_holiday_is_the_session_before() -> None:
    """Good Friday 2026 is 3 April: the contracts of that week expire on Thursday at 16:00 in New York."""
    chain = market_at(dt.datetime(2026, 3, 30, 15, 0, tzinfo=dt.UTC)).options.chain("AAPL")
    [ends_at] = {one.ends_at for one in chain if dt.date(2026, 3, 30) <= one.expires <= dt.date(2026, 4, 5)}
    assert ends_at == dt.datetime(2026, 4, 2, 20, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("price", "lowest", "highest", "count"),
    [("20", "16", "24", 17), ("50", "40", "60", 21), ("150", "120", "180", 25), ("300", "240", "360", 25)],
)
def test_strikes_reach_a_fifth_to_each_side(price: str, lowest: str, highest: str, count: int) -> None:
    """Their step is 0.50 below 25 USD, 1 below 100, 2.50 below 200 and 5 below 500."""
    chain = market_at(price=price).options.chain("AAPL")
    strikes = sorted({one.strike for one in chain if one.expires == JANUARY})
    assert (strikes[0], strikes[-1], len(strikes)) == (Decimal(lowest), Decimal(highest), count)


def test_a_contract_stays_while_the_stock_moves_away_and_days_pass() -> None:
    """Strikes are added around the new price, none is lost, and each expiry is listed until a week after it."""
    market = market_at()
    clock = market.clock
    assert isinstance(clock, ManualClock)
    before = {one.symbol for one in market.options.chain("AAPL")}
    market.listings["AAPL"].price = Decimal(30)
    after = {one.symbol for one in market.options.chain("AAPL")}
    assert before < after
    assert "AAPL260116P00036000" in after - before
    clock.advance_to(dt.datetime(2026, 1, 12, 15, 0, tzinfo=dt.UTC))
    expiries = {one.expires for one in market.options.chain("AAPL")}
    assert (dt.date(2026, 1, 2) in expiries, dt.date(2026, 1, 9) in expiries) == (False, True)
    assert market.options.find("AAPL260102P00020000") is not None


def test_contracts_are_found_by_symbol_and_id_alone() -> None:
    """Strikes between the steps, other stocks and stocks that are listed no longer have none."""
    market = market_at()
    found = january(market.options, "20")
    assert market.options.find(found.asset_id) is found
    for name in ("AAPL260116P00020100", "KO260116P00020000", "AAPL", "AAPL260117P00020000"):
        assert market.options.find(name) is None
    del market.listings["AAPL"]
    assert market.options.find(found.symbol) is None


def test_a_symbol_with_a_share_class_has_a_root_without_the_point() -> None:
    """BRK.B has contracts whose root is BRKB."""
    market = market_at()
    market.list_symbol("BRK.B", Decimal(20), 1_000_000)
    found = market.options.find("BRKB260116C00020000")
    assert found is not None
    assert (found.underlying, found.root) == ("BRK.B", "BRKB")


@pytest.mark.parametrize(("penny", "small", "large"), [(True, "0.01", "0.05"), (False, "0.05", "0.10")])
def test_quotes_are_around_the_value_on_the_tick(penny: bool, small: str, large: str) -> None:
    """Below 3 USD prices are in the small tick of their class, from there on in the large one."""
    market = market_at(penny=penny)
    options = market.options
    for contract in options.chain("AAPL"):
        quote = options.quote(contract)
        if quote is None or options.defects.get(contract.symbol) in {Defect.CROSSED, Defect.STALE}:
            continue
        price = 20.0 * contract.size / contract.multiplier
        years = (contract.ends_at - MORNING).total_seconds() / (365 * 86_400)
        value = OptionModel().value(price, float(contract.strike), years, call=contract.call)
        assert quote.bid <= Decimal(value) <= quote.ask
        assert quote.bid < quote.ask
        assert 0 <= float(quote.ask - quote.bid) <= 0.04 * value + 3 * float(large)
        for one in (quote.bid, quote.ask):
            assert one % Decimal(large if one >= 3 else small) == 0
        assert (quote.bid_size > 0) is (quote.bid > 0)
        assert quote.ask_size > 0


def test_quotes_follow_the_stock() -> None:
    """A put is dearer after the stock has fallen, and its quote has the time at which it is asked for."""
    market = market_at()
    contract = january(market.options, "20")
    before, firm = market.options.quote(contract), market.options.firm_quote(contract)
    assert before == firm
    assert before is not None
    market.listings["AAPL"].price = Decimal("19.50")
    after = market.options.quote(contract)
    assert after is not None
    assert (after.bid > before.bid, after.ask > before.ask, after.at) == (True, True, MORNING)


def test_no_order_fills_outside_the_session_or_in_a_halt() -> None:
    """Before the open the quote is that of the last close, and no order fills at it."""
    market = market_at(dt.datetime(2026, 1, 5, 13, 0, tzinfo=dt.UTC))
    contract = january(market.options, "20")
    quote = market.options.quote(contract)
    assert quote is not None
    assert quote.at == dt.datetime(2026, 1, 2, 21, 0, tzinfo=dt.UTC)
    assert market.options.firm_quote(contract) is None
    market = market_at()
    market.listings["AAPL"].halted = True
    assert market.options.firm_quote(january(market.options, "20")) is None


def test_an_indicative_quote_is_wider() -> None:
    """The free feed modifies quotes: bid and ask are a tick further apart each, and never below nothing."""
    options = market_at().options
    contract, worthless = january(options, "20"), january(options, "16")
    exact, shown = options.quote(contract), options.quote(contract, indicative=True)
    assert exact is not None
    assert shown is not None
    assert (shown.bid, shown.ask) == (exact.bid - Decimal("0.01"), exact.ask + Decimal("0.01"))
    least = options.quote(worthless, indicative=True)
    assert least is not None
    assert least.bid == 0


def test_contracts_beside_the_money_should_not_be_bought() -> None:
    """The first expiry after a week has one of each defect beside the strike at the money, which has none."""
    options = market_at().options
    found = {strike: options.defects.get(january(options, strike).symbol) for strike in ("19", "19.5", "20", "20.5")}
    assert found == {"19": Defect.STALE, "19.5": Defect.CROSSED, "20": None, "20.5": Defect.LOW_INTEREST}
    assert options.defects[january(options, "21").symbol] is Defect.EMPTY
    assert options.defects[january(options, "21.5").symbol] is Defect.UNTRADABLE
    assert options.open_interest(january(options, "20.5")) < 100 <= options.open_interest(january(options, "20"))
    assert options.quote(january(options, "21")) is None
    assert not options.is_tradable(january(options, "21.5"))
    crossed, stale = options.quote(january(options, "19.5")), options.quote(january(options, "19"))
    assert crossed is not None
    assert stale is not None
    assert crossed.bid > crossed.ask
    assert stale.at == dt.datetime(2026, 1, 2, 21, 0, tzinfo=dt.UTC)
    for strike in ("19", "19.5", "21"):
        assert options.firm_quote(january(options, strike)) is None


def test_an_adjusted_and_a_small_contract_have_other_deliverables() -> None:
    """Their roots have a digit; the one delivers 110 shares for a hundred strikes, the other ten for ten."""
    options = market_at().options
    standard, adjusted, small = (january(options, "20", root=root) for root in ("AAPL", "AAPL1", "AAPL7"))
    sizes = [(one.multiplier, one.size) for one in (standard, adjusted, small)]
    assert sizes == [(100, 100), (100, 110), (10, 10)]
    assert adjusted.intrinsic(Decimal(15)) == Decimal("3.5")
    assert january(options, "20", "C", "AAPL1").intrinsic(Decimal(20)) == 2
    assert small.intrinsic(Decimal(15)) == standard.intrinsic(Decimal(15)) == 5


def test_a_contract_that_is_gone_is_listed_no_longer() -> None:
    """It has no quote, and its position keeps a price."""
    options = market_at().options
    contract = january(options, "20")
    price = options.prices(contract)
    options.defects[contract.symbol] = Defect.GONE
    assert contract not in options.chain("AAPL")
    assert options.find(contract.symbol) is contract
    assert (options.is_listed(contract), options.quote(contract), options.firm_quote(contract)) == (False, None, None)
    assert options.prices(contract) == price


def test_an_expired_contract_is_worth_what_exercising_it_pays() -> None:
    """After the close it has no quote and no spread."""
    market = market_at()
    contract, clock = january(market.options, "22"), market.clock
    assert isinstance(clock, ManualClock)
    clock.advance_to(contract.ends_at)
    assert not market.options.is_active(contract)
    assert market.options.quote(contract) is None
    assert market.options.prices(contract) == (Decimal(2), Decimal(0))
