"""How sentences of the command line read on the page."""

from __future__ import annotations

import pytest
from tbot_extension_web.texts import profit, prose


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Next: `tbot run`.", "Next: <code>tbot run --home &#39;/a bot&#39;</code>."),
        (
            "`tbot stop`",
            '<code>tbot stop --home &#39;/a bot&#39;</code> (page <a href="/risk">Risk</a>)',
        ),
        (
            "`tbot secrets backup`",
            '<code>tbot secrets backup --home &#39;/a bot&#39;</code> (page <a href="/secrets#backup">Secrets</a>)',
        ),
        ("`tbot check --home x`", "<code>tbot check --home x</code>"),
        ("`tbot rehearse --help` <b>", "<code>tbot rehearse --help</code> &lt;b&gt;"),
        ("`touch 'x'`", "<code>touch &#39;x&#39;</code>"),
    ],
)
def test_a_command_can_be_copied_and_leads_to_the_page_that_does_it(text: str, shown: str) -> None:
    """It has the folder of the instance; what is no sentence of a command stays as it is."""
    assert prose(text, "/a bot", {"/risk": "Risk", "/secrets": "Secrets"}) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("1234.5", "+1,234.50"), ("-0.999", "\N{MINUS SIGN}1.00"), ("0", "0.00"), (None, "\N{EN DASH}")],
)
def test_a_profit_has_its_sign(amount: str | None, shown: str) -> None:
    """Nothing has none, and what is not known is a dash."""
    assert profit(amount) == shown
