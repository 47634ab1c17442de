"""What `tbot why` and the web page say of a symbol or a session: the documents of `why` and `day_decisions` as text."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from tbot_core.model.clock import both_times, exchange_time
from tbot_core.model.formatting import (
    figure_text,
    first_names,
    format_money,
    format_percent,
    format_price,
    format_quantity,
    plural,
    trades_text,
)
from tbot_core.model.reasons import CONFIRMED, Reason
from tbot_core.model.types import ExitReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_Strong: TypeAlias = Callable[[str], str]
_NO_SIGNAL: Final = "No strategy gave a signal on it."
_MOST_OTHERS: Final = 8
_ANY_MINUTE: Final = " --at HH:MM (New York) explains any minute."
# The sides as their numbers in the journal.
_SIDES: Final = {1: "long", -1: "short"}

_COUNTED: Final = frozenset(
    {
        Reason.CONSECUTIVE_LOSSES,
        Reason.MAX_TRADES,
        Reason.MAX_OPEN_POSITIONS,
        Reason.ORDER_RATE,
        Reason.DAY_TRADES,
    }
)
"""The limits that are counts."""


@attrs.frozen(kw_only=True)
class WhySection:
    """A part of the answer: its title, "" without one; `notes` are sentences that may be wrapped, before the lines."""

    title: str = ""
    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def why_sections(shown: Mapping[str, Any], strong: _Strong = str) -> Iterator[WhySection]:
    """The answer about a symbol (`why_document`); `strong` marks the names and results that stand out."""
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    yield WhySection(
        title=f"{shown['symbol']} in the session of {shown['session']}",
        notes=(f"{shown['mode']} run {shown['run']}, {label}{shown['source']}", *_notes(shown)),
    )
    if shown["screening"]:
        screened = (line for one in shown["screening"] for line in _screening_lines(one, strong))
        yield WhySection(title="Before the opening bell", lines=tuple(screened))
        for minute in shown["minutes"]:
            yield WhySection(
                title=_minute_title(minute), lines=tuple(_minute_lines(minute, shown["decisions"], strong))
            )
    else:
        for decision in shown["decisions"]:
            yield WhySection(lines=tuple(_decision_lines(decision, strong)))
    if shown["asked"] is None and not shown["decisions"]:
        hint = _ANY_MINUTE if shown["screening"] and shown["subscribed"] else ""
        yield WhySection(notes=(_NO_SIGNAL + hint,))
    yield WhySection(lines=tuple(_outcome_lines(shown, strong)))


def figure_lines(decision: Mapping[str, Any]) -> Iterator[str]:
    """How it was sized and what each limit compared; a signal that the filters denied came to neither."""
    sizing, limits = decision.get("sizing"), decision.get("limits")
    if sizing is not None:
        yield "    sizing"
        yield from _sizing_lines(sizing)
    if limits is not None:
        yield f"    {'limits':26} {'used':>12} {'this order':>12} {'allowed':>12}"
        yield from (_limit(limit, denies=limit["reason"] == decision["reason"]) for limit in limits)
    elif not Reason[decision["reason"]].is_before_sizing:
        yield "    sizing and limits: the journal of this run has no figures of them"
    if limits is not None and sizing is None:
        yield "    not sized: denied before"


def day_sections(shown: Mapping[str, Any]) -> Iterator[WhySection]:
    """The answer about a session (`day_decisions`), a section for each strategy."""
    label = "SIMULATED PRICES, " if shown["simulated"] else ""
    yield WhySection(
        title=f"{trades_text(shown['trades'], shown['held'])} in the session of {shown['session']}"
        f"{_pnl(shown) if shown['trades'] else ''}",
        notes=(f"{shown['mode']} run {shown['run']}, {label}{shown['source']}", *shown["advice"]),
    )
    for window in shown["windows"]:
        yield WhySection(title=_window_title(window), notes=tuple(f"  {line}" for line in _window_sentences(window)))
    if shown["left_out"]:
        names = (f"  {_counted(one)} Symbols: {first_names(one['symbols'])}." for one in shown["left_out"])
        yield WhySection(title="Symbols that were left out of the session", notes=tuple(names))
    yield WhySection(notes=("`tbot why SYMBOL` explains each decision on a symbol.",))


def _window_title(one: Mapping[str, Any]) -> str:
    # The strategy with the times of its window.
    start, entry, entry_end, leave = (_time(one[name]) for name in ("start", "entry", "entry_end", "leave"))
    return f"{one['strategy']}: analysis from {start}, entries {entry} to {entry_end}, over at {leave}"


def _window_sentences(one: Mapping[str, Any]) -> Iterator[str]:
    # What the strategy did in its window: candidates, triggers, denials with their reasons, and near misses.
    yield f"{plural(one['candidates'], 'candidate')} before the bell{_vix(one)}."
    yield from (f"  {_counted(found)}" for found in one["before_bell"])
    if one["signals"] or one["triggers"]:
        denied = sum(found["count"] for found in one["denials"])
        yield f"{plural(one['triggers'], 'trigger')}: {one['allowed']} allowed, {denied} denied."
    else:
        yield "No trigger." if one["ended"] else "No trigger yet."
    yield from (f"  {_counted(found)}" for found in one["denials"])
    for near in one["near_misses"] or ():
        yield f"Near miss: {_near_miss(near)}."
    if one["bad_prints"]:
        yield f"BAD_PRINT, first bar ignored: {first_names(one['bad_prints'])}."


def _near_miss(near: Mapping[str, Any]) -> str:
    # How far a symbol stayed from the trigger, and when it was closest.
    away = "an unknown distance" if near["distance"] is None else format_percent(abs(near["distance"]))
    return f"{near['symbol']} {away} from {near['rule']} {_SIDES[near['side']]} at {_time(near['time'])}"


def _notes(shown: Mapping[str, Any]) -> Iterator[str]:
    others = [day for day in shown["sessions_with_decisions"] if day != shown["session"]]
    if others:
        which = f"the last {_MOST_OTHERS} of {len(others)}: " if len(others) > _MOST_OTHERS else ""
        named = ", ".join(others[-_MOST_OTHERS:])
        yield f"Other sessions with decisions on it: {which}{named}. Choose one with --date."
    if shown["note"]:
        yield f"Note: {shown['note']}"


def _time(text: str) -> str:
    return f"{exchange_time(dt.datetime.fromisoformat(text)):%H:%M}"


def _screening_lines(one: Mapping[str, Any], strong: _Strong) -> Iterator[str]:
    begins, ends = map(_time, one["entries"])
    reason, near = one["reason"], one["nearest"]
    verdict = (
        "candidate" if reason == Reason.ALLOWED.name else f"{reason}: {Reason[reason].sentence_for([one['strategy']])}"
    )
    yield f"  {strong(one['strategy'])}, entries {begins} to {ends}: {verdict}"
    yield from _findings(one["findings"])
    if near is not None:
        away = "an unknown distance" if near["distance"] is None else format_percent(near["distance"])
        rule = f"{near['rule']} {_SIDES[near['side']]}"
        yield f"    no trigger; closest to {rule} at {_time(near['time'])}, {away} away"


def _findings(findings: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for finding in findings:
        outcome = "met" if finding["reason"] == Reason.ALLOWED.name else f"not met: {finding['reason']}"
        if outcome == "met" and finding["value"] is None and {finding["low"], finding["high"]} != {None}:
            outcome = "passed by FILTER_MISSING_DATA"
        if not finding["applies"]:
            yield f"    {finding['check']:22} {'':13}  does not apply to funds"
            continue
        bounds = _bounds(finding["low"], finding["high"])
        yield f"    {finding['check']:22} {_known(finding['value']):>13}  {bounds:31} {outcome}"
        yield from _plugin_words(finding, 6)


def _plugin_words(finding: Mapping[str, Any], indent: int) -> Iterator[str]:
    # The plugin that denied, and its own words, where the reason has none; older journals have neither.
    if finding.get("plugin"):
        yield " " * indent + f"{finding['plugin']}: {finding['words'] or 'it gives no words of its own.'}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return "no limit"
    if low is None or high is None:
        return f"at least {_number(low)}" if low is not None else f"at most {_number(high or 0.0)}"
    return f"{_number(low)} to {_number(high)}"


def _known(value: float | None) -> str:
    return "unknown" if value is None else _number(value)


def _number(value: float) -> str:
    text = f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.4f}".rstrip("0").rstrip(".")
    return figure_text(text)


def _minute_title(one: Mapping[str, Any]) -> str:
    ended = dt.datetime.fromisoformat(one["time"])
    return f"{both_times(ended)}, after the bar of {exchange_time(ended - dt.timedelta(minutes=1)):%H:%M}"


def _minute_lines(one: Mapping[str, Any], decisions: Iterable[Mapping[str, Any]], strong: _Strong) -> Iterator[str]:
    if one["bar"] is None:
        yield "  no bar: no trade in this minute"
    else:
        ohlc = "  ".join(f"{name} {_number(one['bar'][name])}" for name in ("open", "high", "low", "close", "volume"))
        yield f"  bar: {ohlc}"
    if one["quote"] is not None:
        yield f"  quote: {_quote(one['quote'])}"
    for part in one["strategies"]:
        if part["comparisons"]:
            yield from _strategy_lines(part, strong)
    if quiet := [part["strategy"] for part in one["strategies"] if not part["comparisons"]]:
        yield f"  {', '.join(quiet)}: not in the entry phase, nothing to compare"
    for decision in decisions:
        if decision["signal"]["minute"] == one["minute"]:
            yield from _decision_lines(decision, strong)


def _quote(quote: Mapping[str, float]) -> str:
    middle = (quote["bid"] + quote["ask"]) / 2
    spread = format_percent((quote["ask"] - quote["bid"]) / middle)
    return f"bid {_number(quote['bid'])}  ask {_number(quote['ask'])}  spread {spread}, {quote['age_s']:.1f} s old"


def _strategy_lines(part: Mapping[str, Any], strong: _Strong) -> Iterator[str]:
    yield f"  {strong(part['strategy'])}"
    for comparison in part["comparisons"]:
        yield _compared(
            comparison,
            f"{comparison['rule']} {_SIDES[comparison['side']]}",
            "met" if comparison["fires"] else "not met",
        )
        for condition in comparison["conditions"]:
            yield _compared(condition, f"  and {condition['rule']}", "met" if condition["fires"] else "not met")
    if part["filters"] is not None:
        verdict = "pass" if part["filters"] == Reason.ALLOWED.name else f"deny: {part['filters']}"
        yield f"    filters on a signal in this minute {verdict}"
        yield from _findings(part["findings"])


def _compared(one: Mapping[str, Any], name: str, outcome: str) -> str:
    bound = f"{'above' if one['above'] else 'below'} {_known(one['level'])}"
    return f"    {name:22} {_known(one['value']):>13}  {bound:30} {outcome}"


def _decision_lines(one: Mapping[str, Any], strong: _Strong, what: str = "decided") -> Iterator[str]:
    signal, reason = one["signal"], one["reason"]
    words = f" ({one['words']})" if one["words"] else ""
    words += f" at {one['broker']}" if "broker" in one else ""
    figures = "" if one["value"] is None else f" {figure_text(one['value'])} of {figure_text(one['limit'])}"
    rule = f"{signal['strategy']} {one['side']} by {signal['rule']}"
    time = both_times(dt.datetime.fromisoformat(one["time"]))
    yield f"  {what} at {time}: {rule}, {strong(reason)}{figures}{words}"
    yield f"    {Reason[reason].sentence_for([signal['strategy']])}"
    for finding in one["findings"]:
        yield from _plugin_words(finding, 4)
    if "quote" in one:
        yield f"    by the quote {_quote(one['quote'])}"
    if what == "decided":
        yield from figure_lines(one)


def _sizing_lines(one: Mapping[str, Any]) -> Iterator[str]:
    # From the equity at the open to the quantity.
    window, share, cap, price = (_dollars(one[name]) for name in ("window", "share", "cap", "price"))
    quantity, step = (Decimal(one[name]) for name in ("quantity", "step"))
    fixed = one["bound"] == "FIXED_QUANTITY"
    yield _sized("equity", _dollars(one["equity"]), "at the opening bell")
    yield _sized("budget of the window", window, one["allocation"])
    if one["weight"] is not None:
        yield _sized("share of this order", share, f"{one['weight']} of it, WEIGHTS")
    yield _sized("most for one trade", cap, one.get("capped_by", "MAX_RISK_PER_TRADE"))
    worst = max(Decimal(one["price"]), Decimal(one["reference"]))
    kind = "limit" if one["type"] == "limit" else "worst price of a market order"
    yield _sized("price", price, f"{kind}; reference {_dollars(one['reference'])}")
    budget = share if one["bound"] == "WEIGHTS" else cap
    steps = "whole shares" if step == 1 else f"step {step.normalize():f}"
    how = one["bound"] if fixed or one["bound"] == CONFIRMED else f"{budget} / {_dollars(worst)}, {steps}"
    yield _sized("quantity", format_quantity(quantity), how)
    yield _sized("decided by", one["bound"], "")


def _sized(name: str, value: str, words: str) -> str:
    return f"      {name:24} {value:>12}  {words}".rstrip()


def _dollars(amount: object) -> str:
    return format_money(Decimal(str(amount)))


def _limit(one: Mapping[str, str], *, denies: bool) -> str:
    # Used, order and allowed: counts and fractions as they are, dollars in cents.
    reason = Reason[one["reason"]]
    figures = [Decimal(one[name]) for name in ("used", "order", "allowed")]
    text = str if reason in _COUNTED else format_percent if reason is Reason.PRICE_BAND else format_money
    used, order, allowed = map(text, figures)
    outcome = "not met" if denies else "met"
    return f"      {reason.setting or reason.name:24} {used:>12} {order:>12} {allowed:>12}  {outcome}"


def _outcome_lines(shown: Mapping[str, Any], strong: _Strong) -> Iterator[str]:
    # The position, orders and trades that resulted from the decisions.
    last = "now" if shown["in_session"] else "at the end of the session"
    when = last if shown["asked"] is None else "then"
    position = shown["position"]
    if position is None:
        yield f"Position {when}: none"
    else:
        held = f"{position['side']} {format_quantity(Decimal(position['quantity']))} at {position['entry_price']}"
        yield f"Position {when}: {held}, stop {position['stop'] or 'on close'}"
    if shown["frozen"]:
        yield f"  FROZEN: no entries and no exits, {shown['frozen']}"
    if shown["stuck"]:
        yield f"  STUCK: not closed by the end of the session, {shown['stuck']}"
    for top_up in shown["top_ups"]:
        yield from _decision_lines(top_up, strong, "top-up")
    yield from map(_order, shown["orders"])
    yield from map(_trade, shown["trades"])


def _order(one: Mapping[str, Any]) -> str:
    leg = "top-up" if one["top_up"] else one["leg"]
    kind = f"{leg} {'buy' if one['buy'] else 'sell'} {format_quantity(Decimal(one['quantity']))} {one['type']}"
    level = one["limit_price"] or one["stop_price"]
    return f"  order {kind}{'' if level is None else f' {format_price(Decimal(level))}'}: {one['state']}"


def _trade(one: Mapping[str, Any]) -> str:
    entry, out = (format_price(Decimal(one[name])) for name in ("entry_price", "exit_price"))
    pnl = format_money(Decimal(one["pnl"]), signed=True)
    quantity = format_quantity(Decimal(one["quantity"]))
    return f"  trade {one['side']} {quantity}: {entry} to {out}, {ExitReason(one['exit_reason']).word}, {pnl}"


def _pnl(shown: Mapping[str, Any]) -> str:
    return f", {format_money(Decimal(shown['pnl']), signed=True)}"


def _vix(one: Mapping[str, Any]) -> str:
    return "" if one["vix"] is None else f", VIX {one['vix']:.2f}"


def _counted(found: Mapping[str, Any]) -> str:
    changes: Sequence[str] = found["settings"]
    by = f" Settings that change this: {', '.join(changes)}." if changes else ""
    return f"{found['count']} {found['reason']}: {found['sentence']}{by}"
