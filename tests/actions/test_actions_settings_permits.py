"""Which change of which setting needs the password again: a table of what each setting means, for every setting."""

from __future__ import annotations

from typing import Final

import attrs
import pytest

from tbot_core.contracts.setting import (
    Permits,
    SettingDeclaration,
    boolean,
    declarations,
    declare,
    integer,
    names,
    setting,
)
from tbot_core.instance.registry import VariableCatalogue, catalogue
from tbot_core.plugins import discovery
from tbot_core.plugins.loader import PluginLoader

# Each line: the setting, the changes that permit more, and after the bar those that do not; `~` is an empty value.
# NAME stands for each strategy. A setting without a change after the bar needs the password for every change.
TABLE: Final = """
ENVIRONMENT production>development | development>production
CONTROL_DIR control>requests control>/tmp/control
ENV_BOT_PATH .env_bot>other
ENV_KEY_PATH storage/keys/env.key>k
ENV_ENC_KEY_PATH storage/keys/env_enc.key>k
LOGIN_KEY_PATH storage/keys/login.key>k
BROKER_KEY_PATH storage/keys/broker.key>k
SMTP_KEY_PATH storage/keys/smtp.key>k
SCREENER_API_KEY_PATH storage/keys/screener_api.key>k
ACCT_API_KEY_PATH storage/keys/acct_api.key>k
ALERT_KEY_PATH storage/keys/alert.key>k
NETWORK_KEY_PATH storage/keys/network.key>k
BOT_IDENTITY_KEY_PATH storage/keys/bot_identity.key>k
BROKER_CREDENTIALS_PATH storage/secrets/broker_credentials.json.enc>s
SMTP_CREDENTIALS_PATH storage/secrets/smtp_credentials.json.enc>s
SCREENER_API_PATH storage/secrets/screener_api.json.enc>s
ACCT_API_CREDENTIALS_PATH storage/secrets/acct_api_credentials.json.enc>s
NETWORK_CONFIG_PATH storage/secrets/network_config.json.enc>s
ALERT_CHANNELS_PATH storage/secrets/alert_channels.json.enc>s
BOT_IDENTITY_PATH storage/secrets/bot_identity.json.enc>s
LOGIN_PATH storage/secrets/login.json.enc>s
SESSION_TIMEOUT 3000>3001 | 3000>600
SESSION_TIMEOUT_MINUTES 120>121 | 120>60
LOGIN_ATTEMPT_LIMIT 10>11 10>1000 | 10>5
LOGIN_LOCKOUT_MINUTES 15>14 15>1 | 15>60
SECRETS_WRITE_FORMAT aes-256-gcm>fernet | fernet>aes-256-gcm
KEEP_PREV_DAYS 30>31 30>0
EXTENSIONS ~>none ~>web web>web,metrics

VERSION_TAG ~>v1.0.0 v1.0.0>~
BUILD_MODE release>debug | debug>release
DISABLE_ALL_TRADES true>false | false>true
DEBUG_LOG_LEVEL verbose>quiet info>quiet | quiet>info info>verbose verbose>info
ENABLE_LOGGING true>false | false>true
LOG_FORMAT | json>csv csv>json

BROKER_NAME paper>alpaca alpaca>ibkr alpaca>paper
DATA_SOURCE ~>alpaca alpaca>~
STRATEGY_SEQUENCE open>open,mid ~>open open,mid>mid,open open>close | open,mid>mid open,mid,close>open,close open>~
STRATEGY_OVERRIDE ~>open open>~ open>mid
UNIVERSE AAPL>AAPL,MSFT AAPL>~ AAPL>MSFT | AAPL,MSFT>AAPL ~>AAPL
UNIVERSE_MAX 500>501 | 500>10
WATCH_ONLY SPY>~ SPY,QQQ>SPY SPY>QQQ | ~>SPY SPY>SPY,QQQ
BLOCKLIST GME>~ GME,AMC>GME GME>AMC | ~>GME GME>AMC,GME
FILTERS ~>none ~>-price_volume mine>~ mine>other -finnhub>-price_volume a,b>b,a | ~>mine none>~ none>-finnhub -finnhub>~
FILTER_MISSING_DATA reject>pass | pass>reject
VIX_SOURCE previous_close>live live>previous_close
GAP_REFERENCE current>previous_close previous_close>current
TRADING_DAYS mon,tue>mon,tue,wed | mon,tue,wed>mon,wed
CALENDAR_OVERRIDES 2026-12-24_closed_A>~ 2026-12-24_closed_A>2026-12-24_13:00 | ~>2026-12-24_closed_A
SLEEP_TIME 1s>2s | 1s>500ms
BAR_GRACE 2s>3s 2s>1s
TIME_ANCHOR exchange>utc utc>exchange
API_RETRY_LIMIT 3>4 3>2
API_TIMEOUT 30>60 30>10

STRAT_NAME_ENABLED false>true | true>false
START_TIME_NAME 14:30>15:00 15:00>14:30
NAME_ANALYSIS_TIME 20>10 20>30
NAME_BREAKOUT_TIME 10>20 | 10>5
NAME_MONITORING_TIME 30>60 | 30>10
SHORT_TYPE_NAME disabled>ShortSell disabled>InverseETF InverseETF>LongPut ShortSell>InverseETF | ShortSell>disabled
MAX_GAP_PCT_NAME 0.1>0.2 | 0.1>0.05
MIN_MARKET_CAP_NAME 2000000000>1000000000 2000000000>~ 2000000000>0 | 1000000000>2000000000 ~>1
MAX_MARKET_CAP_NAME 1000>2000 1000>~ 1000>0 | 2000>1000 ~>1000

TOTAL_ALLOCATION 0.02>0.03 | 0.02>0.01
MAX_TRADES 4>5 | 4>0
WEIGHTS 0.4,0.2>0.4,0.3 0.4,0.2>0.3,0.3 0.4>0.4,0.1 | 0.4,0.2>0.4,0.1 0.4,0.2>0.4
DAILY_LOSS_LIMIT 0.05>0.06 | 0.05>0.04
MAX_RISK_PER_TRADE 0.025>0.03 | 0.025>0.02
MAX_OPEN_POSITIONS 5>6 | 5>4
WINDOW_LOSS_LIMIT 0.1>0.2 | 0.1>0.05
MAX_CONSECUTIVE_LOSSES 3>4 3>0 | 3>2 0>3
MAX_GROSS_EXPOSURE 0.1>0.2 | 0.1>0.05
MAX_SYMBOL_EXPOSURE 0.02>0.03 0.02>~ ~>0.02 | 0.02>0.01
MAX_INDEX_EXPOSURE 0.04>0.05 | 0.04>0
MAX_LEVERAGE 1>2 | 1>0.5
MAX_ORDER_NOTIONAL 500>600 500>0 | 0>500 600>500
FIRST_LIVE_DAY_MAX_ORDER_NOTIONAL 500>600 500>0 | 0>500 600>500
MAX_ORDERS_PER_MINUTE 30>31 | 30>10
PRICE_BAND_PCT 0.05>0.06 | 0.05>0.01
MAX_REJECTS_IN_ROW 3>4 | 3>1
MAX_FILL_DEVIATION_PCT 0.01>0.02 | 0.01>0.005
INVERSE_MAX_LEVERAGE 1>2 | 2>1
INVERSE_MIN_CORR 0.5>0.4 | 0.5>0.6
DEFENSE_MODE_ACTIVE true>false | false>true
DEFENSE_MODE_TRADE_LIMIT_PCT 66>67 | 66>50
DEFENSE_MODE_TOTAL_ALLOCATION 0.01>0.02 | 0.01>0.005

ENTRY_ORDER_TYPE limit>market | market>limit
ENTRY_LIMIT_PCT 0.002>0.003 | 0.002>0.001
ENTRY_TTL 20s>30s | 20s>5s
MAX_SPREAD_PCT 0.003>0.004 | 0.003>0.001
ONE_TRADE_PER_SYMBOL_PER_DAY true>false | false>true
EARNINGS_BLACKOUT true>false | false>true
FRACTIONAL false>true | true>false
FRACTIONAL_UNPROTECTED false>true | true>false
TRADE_CONFIRMATION_REQUIRED true>false | false>true
CONFIRMATION_TIMEOUT 60s>90s | 60s>30s
STOP_LOSS_PCT 0.02>0.03 | 0.02>0.01
TRAILING_STOP true>false | false>true
STOP_ATR 0>1 1>0 1>2 2>1
TARGET_R 0>1 1>0 1>2 2>1
FLATTEN_BEFORE_CLOSE 5>4 | 5>10
STOP_POLICY flatten>keep | keep>flatten

REBALANCE_ENABLED false>true true>false
REBALANCE_THRESHOLD 0.1>0.2 0.1>0.05
REBALANCE_CHECK_INTERVAL 3600>60 60>3600
REBALANCE_TOP_UP false>true | true>false
ENABLE_REBALANCE_NOTIFIER true>false | false>true
REBALANCE_TRIGGER_PCT 10>20 | 10>5
FAILOVER_ENABLED false>true | true>false
FAILOVER_LOG_TAG | FAILOVER_ACTIVE>OTHER
FAILOVER_BROKERS ~>ibkr ibkr>tradier ibkr,tradier>tradier,ibkr | ibkr>~

NOTIFY_ON_FILL true>false | false>true
NOTIFY_ON_EXIT true>false | false>true
NOTIFY_ON_FAILURE true>false | false>true
CRITICAL_ALERT_CHANNEL pagerduty>console pagerduty>pagerduty,email pagerduty,email>email
ROUTINE_ALERT_CHANNEL email>console email>email,slack email,slack>slack
ALERT_QUIET_HOURS ~>22:00-06:00 22:00-06:00>21:00-07:00 | 22:00-06:00>~
LEDGER_EXPORT_MODE auto>off | off>auto
LOT_METHOD fifo>lifo lifo>fifo

SEED | 0>7
VOLUME_LIMIT | 0.1>0.2 0.2>0.1
FIXED_QUANTITY | 0>10
FEE_PER_SHARE | 0>0.01 0.01>0
FEE_SELL_BPS | 0.278>0
PAPER_CASH | 100000>50000 100000>200000
ENABLE_SLIPPAGE_MODEL | true>false false>true
SLIPPAGE_SIMULATION_TYPE | randomized>none
SLIPPAGE_MEAN_PCT | 0.15>0.1
SLIPPAGE_STDDEV_PCT | 0.1>0.2
SIMULATED_LATENCY_MS | 500>0
TARGET_FILL | through>touch touch>through

STRAT_OPEN_BUFFER 0.02>0.01 | 0.02>0.03
STRAT_MID_VWAP_THRESHOLD 0.02>0.01 | 0.02>0.03
STRAT_CLOSE_VIX_THRESHOLD 15>10 | 15>20
CLOSE_BUFFER 0.01>0 | 0>0.01
CLOSE_MIN_RANGE_PCT 0.01>0 | 0.01>0.02
CLOSE_FADE_PCT 0.05>0.04 | 0.05>0.06
MIN_PRICE 5>1 5>0 | 5>10
MAX_PRICE 100>200 100>~ 100>0 | 100>50 ~>100
MIN_VOLUME_THRESHOLD 1000000>1000 1000000>0 | 0>1
MIN_REL_VOLUME 1>0 2>1 | 0>1
ENABLE_FUNNHUB_FUNDAMENTALS_FILTER true>false | false>true
MAX_PE_RATIO 50>60 | 50>40
MAX_DEBT_EQUITY 2.5>3 | 2.5>2
ENABLE_BSM_FILTER true>false | false>true
MAX_BSM_DEVIATION 0.15>0.2 | 0.15>0.1
RISK_FREE_RATE 0.045>0.05 0.045>0.04
RISK_FREE_RATE_SOURCE static>dynamic dynamic>static
BSM_EXERCISE american>european european>american
BSM_VOLATILITY realised>chain chain>realised
ENABLE_STRATEGY_OPTIMIZER false>true | true>false
OPTIMIZER_BACKTEST_LOOKBACK_DAYS | 30>60 30>10
OPTIMIZER_ALGORITHM | grid_search>bayesian
OPTIMIZER_OUTPUT_DIR backtest_results/>/tmp/x backtest_results/>storage
RBAC_ENABLED true>false | false>true
DEFAULT_USER_ROLE viewer>trader viewer>admin trader>admin | admin>viewer
ALPACA_DATA_FEED iex>sip sip>iex
"""

STRATEGIES: Final = ("open", "mid", "close")


def rows() -> dict[str, tuple[list[str], list[str]]]:
    """By setting the changes that need the password, and those that do not."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for line in TABLE.strip().splitlines():
        name, _, changes = line.partition(" ")
        if not name:
            continue
        needs, _, free = changes.partition("|")
        of_strategy = name.startswith(("STRAT_NAME_", "NAME_")) or (name.endswith("_NAME") and name != "BROKER_NAME")
        for strategy in STRATEGIES if of_strategy else ("",):
            found[name.replace("NAME", strategy.upper()) if strategy else name] = (needs.split(), free.split())
    return found


ROWS: Final = rows()


@pytest.fixture(scope="module")
def known() -> VariableCatalogue:
    """Every setting of the core, of the project's plugins, and of those that are installed."""
    listings = discovery.installed_plugins()
    loaded, failures = PluginLoader().offers([(it.entry.kind, it.entry.name) for it in listings], listings)
    assert failures == ()
    return catalogue(STRATEGIES, tuple(it.declared for it in loaded))


def reason(one: SettingDeclaration, change: str) -> str:
    """The reason of a change, whose texts are first written as the settings write them."""
    before, after = (one.kind.show(one.kind.parse(_plain(text))) for text in change.split(">"))
    return one.permits.reason(one.kind, before, after)


def _plain(text: str) -> str:
    plain = "" if text == "~" else text
    return plain.replace("_", " ") if plain[:4].isdecimal() and "-" in plain else plain


def test_the_table_has_every_setting(known: VariableCatalogue) -> None:
    """A new setting fails this until the table says what it permits; hosts of tests are named by their plugins."""
    hosts = {name for name in known.variables if name.startswith("HOST_")}
    assert set(known.variables) - hosts == set(ROWS)
    assert {known.variables[name].declaration.permits for name in hosts} <= {Permits()}


@pytest.mark.parametrize("name", ROWS)
def test_a_change_that_permits_more_needs_the_password_and_another_one_does_not(
    known: VariableCatalogue, name: str
) -> None:
    """By what the setting means: each change with a reason as a sentence, or without one."""
    one, (needs, free) = known.variables[name].declaration, ROWS[name]
    for change in needs:
        assert reason(one, change).endswith("."), change
    for change in free:
        assert reason(one, change) == "", change
    if not free:
        assert one.permits.direction == "any"
    assert needs or one.permits.direction == "none"


@attrs.frozen(kw_only=True)
class Declared:
    """Settings of a plugin of somebody else."""

    silent: bool = setting("MINE_SILENT", boolean(), default="true", doc="Whether it is.")
    level: int = setting("MINE_LEVEL", integer(), default="3", doc="A level.", permits=Permits("smaller"))


def test_a_plugin_says_what_its_settings_permit_and_else_every_change_counts() -> None:
    """As the core says it."""
    silent, level = declarations(Declared).values()
    assert (
        reason(silent, "true>false") == reason(silent, "false>true") == "Any change of it may permit more than before."
    )
    assert reason(level, "3>2") == "A smaller value permits more than before."
    assert reason(level, "2>3") == ""


@pytest.mark.parametrize(
    ("permits", "before", "after", "said"),
    [
        (Permits("larger", ("0",)), "3", "0", "Without this limit more is permitted than before."),
        (Permits("larger", why="More is lost."), "3", "4", "More is lost."),
        (Permits("larger"), "never", "4", "A larger value permits more than before."),
        (Permits("none"), "never", "4", ""),
        (Permits("unless", ("0", "1")), "0", "2", "Another value than 0 or 1 permits more."),
        (Permits(), "4", "4", ""),
    ],
)
def test_the_reason_is_a_sentence(permits: Permits, before: str, after: str, said: str) -> None:
    """Its own, or that of the direction; a text of before that cannot be read counts as one that permits less."""
    assert permits.reason(integer(), before, after) == said


def test_the_order_of_names_counts() -> None:
    """A list that is put in another order is neither longer nor shorter, and asks for the password."""
    kind = declare("MINE", names(), default="", doc="Names.").kind
    for direction in ("added", "removed"):
        assert Permits(direction).reason(kind, "a,b", "b,a")
