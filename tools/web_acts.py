"""What a person does on the pages: first run, set-up, login, settings, secrets, users, the requests, a backtest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from playwright.sync_api import expect
from web_browser import PATIENCE_MS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from web_person import Walk

USER: Final = "anna"
IDENTITY: Final = "ACME_US_ALPACA_B01"
SECRETS: Final = {
    "password": "velvet otter quarry lantern",
    "api_key": "PKWALKOFTHEPAGE00001",
    "api_secret": "walk-of-the-page-secret-4711",
    "finnhub": "walkofthepagefinnhub0",
    "routing_key": "0123456789abcdef0123456789abcdef",
    "smtp": "walk-of-the-page-mail-0815",
    "another password": "copper meadow violin harbour",
}
"""What a person types on the way and no answer may show."""

WAIT_MS: Final = 240_000
"""How long a signal or a backtest may take on a busy machine."""

LOGINS: Final = {
    "smtp.email.host": "127.0.0.1",
    "smtp.email.port": "2525",
    "smtp.email.user": "bot@example.com",
    "smtp.email.password": SECRETS["smtp"],
    "smtp.email.recipients": "me@example.com",
    "alert.pagerduty.routing_key": SECRETS["routing_key"],
    "screener_api.finnhub.api_key": SECRETS["finnhub"],
}
"""What a person enters at the steps of alerts and screeners: nothing is sent there in a rehearsal."""

TRADES_AT_ONCE: Final = {
    "ENABLE_FUNNHUB_FUNDAMENTALS_FILTER": "false",
    "FILTER_MISSING_DATA": "pass",
    "OPEN_BREAKOUT_TIME": "30",
    "OPEN_MONITORING_TIME": "10",
    "STRAT_OPEN_BUFFER": "0",
    "TRADE_CONFIRMATION_REQUIRED": "true",
}
"""What a person changes so that the day needs no account at Finnhub, and asks before it trades.

With the sample's values two symbols break out, in the 23rd and 24th minute after the open: where the bot is not ready
by then, no entry ever waits for a confirmation. Without a threshold many do, and entries go on for half an hour.
"""

_FILES: Final = {"env_bot": "env_bot.sample", "env": "env.sample"}


def make_admin(walk: Walk, link: str) -> None:
    """Open the link of the first run, and become the admin."""
    walk.open(link, "first-run")
    walk.fill(name=USER, password=SECRETS["password"], again=SECRETS["password"])
    walk.press("Make the admin", "setup-begin")


def set_up(walk: Walk, samples: Path) -> None:
    """Drop the sample files in, answer what they do not, and make the instance."""
    walk.tab.locator("input[name=how][value=upload]").check()
    for field, sample in _FILES.items():
        walk.tab.set_input_files(f"input[name={field}]", samples / sample)
    walk.press("Continue", "setup-taken")
    walk.press("Continue", "setup-identity")
    walk.fill(identity=IDENTITY)
    walk.press("Continue", "setup-credentials")
    for field in ("api_key", "api_secret"):
        walk.tab.locator(f"main input[name$='{field}']").first.fill(SECRETS[field])
    walk.press("Test the login")
    walk.see("setup-credentials-tested")
    walk.press("Continue")
    while walk.path != "/setup/summary":
        walk.see(walk.path.removeprefix("/").replace("/", "-"))
        for name, text in LOGINS.items():
            if walk.tab.locator(f"main input[name='{name}']").count():
                walk.fill(**{name: text})
        walk.press("Continue")
    walk.see("setup-summary")
    create(walk)


def create(walk: Walk) -> None:
    """Approve the plugins of the summary, and make the instance."""
    walk.press("Approve the plugins and create the instance", "check")


def each_step(walk: Walk) -> None:
    """Look at every step of the set-up, without an answer."""
    steps = walk.tab.locator("nav.steps a")
    for path in [one.get_attribute("href") or "" for one in steps.all()]:
        walk.open(path, path.removeprefix("/").replace("/", "-"))


def log_in(walk: Walk, name: str = "") -> None:
    """Log in at the page's form."""
    walk.open("/login", name)
    walk.fill(name=USER, password=SECRETS["password"])
    walk.press("Log in")


def log_out(walk: Walk) -> None:
    """Log out by the menu."""
    walk.tab.locator("details.menu summary").click()
    walk.press("Log out")
    if walk.path != "/login":
        raise AssertionError(f"Logged out, and at {walk.path}.")


def step_up(walk: Walk, name: str = "") -> None:
    """Enter the password again."""
    walk.see(name)
    walk.fill(password=SECRETS["password"])
    walk.press("Continue")


def change_setting(walk: Walk, setting: str, text: str, name: str = "") -> None:
    """Change a setting: find it, read the difference, save."""
    walk.open(f"/settings?q={setting}")
    field = walk.tab.locator(f"[name='set.{setting}']")
    if field.evaluate("(one) => one.tagName") == "SELECT":
        field.select_option(text)
    else:
        field.fill(text)
    walk.press("Review the changes", name)
    again = walk.tab.locator("main input[name=password]")
    if again.count():
        again.fill(SECRETS["password"])
    walk.press("Save")
    walk.read("Saved:")


def make_metrics_token(walk: Walk) -> str:
    """Let the page make a token for /metrics, and read it where it is shown once."""
    walk.open("/secrets", "secrets")
    walk.press("Make a token", "secrets-token")
    return walk.tab.locator("code.long").inner_text()


def begin_one_time_codes(walk: Walk) -> str:
    """Begin with one-time codes, and read the secret where it is shown."""
    walk.open("/account/codes", "account-codes")
    return walk.tab.locator("code.long").inner_text().replace(" ", "")


def add_user(walk: Walk) -> None:
    """Add a viewer."""
    walk.open("/users", "users")
    form = walk.tab.locator("form[action='/users/add']")
    form.locator("[name=name]").fill("bob")
    for field in ("password", "again"):
        form.locator(f"[name={field}]").fill(SECRETS["another password"])
    walk.press("Add", at="form[action='/users/add']")
    walk.read("bob is added")


def read_pages(walk: Walk, paths: Sequence[str]) -> None:
    """Look at pages, each under its own name."""
    for path in paths:
        walk.open(path, path.strip("/").replace("/", "-"))


def approve(walk: Walk) -> None:
    """Wait for an entry on the page of confirmations, and approve it."""
    walk.open("/confirmations")
    walk.tab.get_by_role("button", name="Approve").first.wait_for(timeout=WAIT_MS)
    expect(walk.tab.locator(".top .badge")).to_have_text("REHEARSAL")
    walk.see("confirmations")
    walk.press("Approve")
    walk.read("Confirmed, checked again and sent")


def see_position(walk: Walk) -> None:
    """See a protected position come on the dashboard, which is not opened again."""
    walk.tab.bring_to_front()
    expect(walk.tab.locator("#part-positions")).to_contain_text("resting", timeout=WAIT_MS)
    expect(walk.tab.locator("#part-figures")).not_to_contain_text("cost 0.00 of")  # as the bot writes it, each second
    expect(walk.tab.locator(".top .badge")).to_have_text("REHEARSAL")
    walk.see("dashboard")


def kill(walk: Walk) -> None:
    """Kill on the dashboard, and see what is recorded."""
    walk.open("/")
    walk.press("Kill", "risk-question", at=".control")
    walk.press("Kill now", "risk-killed")
    walk.read("Killed: entries are blocked")


def close_all(walk: Walk) -> None:
    """Close every position, and block entries."""
    walk.open("/risk")
    walk.press("Kill and flatten")
    walk.press("Yes, close every position")


def see_trade(walk: Walk) -> None:
    """Wait for a closed trade, and see its chart."""
    link = walk.tab.locator("main tbody th a").first
    walk.open("/trades")
    for _ in range(WAIT_MS // PATIENCE_MS * 10):
        if link.count():
            break
        walk.tab.wait_for_timeout(PATIENCE_MS // 10)
        walk.open("/trades")
    with walk.arriving():
        link.click()
    expect(walk.tab.locator("#trade-chart canvas").first).to_be_visible()
    walk.see("trade")


def clear_kill(walk: Walk) -> None:
    """Clear the kill; where the password was not entered lately it is asked for, and clears it."""
    walk.open("/risk")
    walk.press("Clear the kill")
    if walk.path == "/step-up":
        walk.see("step-up-request")
        walk.fill(password=SECRETS["password"])
        walk.press("Do it")


def backtest(walk: Walk) -> None:
    """Start a backtest over what is stored, wait for its end, and open its report."""
    walk.open("/runs", "runs")
    walk.press("Start")
    walk.see("runs-started")
    walk.tab.get_by_role("link", name="Open the report").wait_for(timeout=WAIT_MS)
    walk.see("runs-done")
    report = walk.tab.get_by_role("link", name="Open the report").get_attribute("href")
    walk.open(report or "", "report")  # a click opens it in another tab
    walk.read("Trades")
    walk.open("/runs")
