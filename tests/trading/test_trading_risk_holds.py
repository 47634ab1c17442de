"""What keeps orders in a symbol back at a broker."""

from __future__ import annotations

from tbot_core.trading.risk.holds import NO_EXIT, UNCLEAR, WITHOUT_RULES, Hold, Holds


def test_a_symbol_is_held_back_until_the_last_of_its_holds_has_ended() -> None:
    """Each hold ends by itself, with its words; another symbol has none of them."""
    holds = Holds()
    holds.add("AAA", Hold.FROZEN, "a split")
    holds.add("AAA", Hold.HALTED)
    assert holds.words("AAA", Hold.FROZEN) == "a split"
    holds.end("AAA", Hold.FROZEN, Hold.DISPUTED)
    assert holds.has("AAA", *UNCLEAR)
    assert not holds.has("AAA", Hold.FROZEN)
    assert not holds.has("BBB", *Hold)
    holds.end("AAA", Hold.HALTED)
    holds.end("BBB", Hold.HALTED)
    assert holds == Holds()


def test_a_hold_is_set_to_exactly_the_symbols_that_are_reported() -> None:
    """Those that are no longer reported are free of it and keep their other holds."""
    holds = Holds()
    holds.add("AAA", Hold.RULES_UNKNOWN)
    holds.keep_only(Hold.HALTED, {"AAA", "BBB"})
    holds.keep_only(Hold.HALTED, {"BBB", "CCC"})
    assert holds.symbols(Hold.HALTED) == {"BBB", "CCC"}
    assert holds.has("AAA", *WITHOUT_RULES)


def test_an_exit_waits_for_rules_that_are_requested_and_not_for_rules_that_never_came() -> None:
    """Then it is sent as it is; an entry waits for both."""
    assert {*NO_EXIT} & {*WITHOUT_RULES} == {Hold.RULES_REQUESTED}
