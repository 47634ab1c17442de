"""A person's whole way in a real browser: first run, a paper day at the venue of Alpaca, a kill, a backtest, logout.

`tools/web_walk.py` is the way, `tools/web_audit.py` what each page is judged by.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest
from tbot_extension_web.setup.steps import STEPS
from tbot_extension_web.site import NAVIGATION
from web_audit import AXE, VENDOR, Audit
from web_browser import chromium
from web_walk import PLAIN, WITHOUT_SCRIPTS, Place, set_up_by_phone, whole_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.first(0),  # over two seconds
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("loopback"),
]


@attrs.frozen(kw_only=True)
class Walked:
    """What the way has left: the faults of its pages, the instance, and what the processes have printed."""

    audit: Audit
    home: Path
    printed: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of this module."""
    with chromium() as found:
        yield found


def walk(way: Callable[[Place, Callable[[str], Audit]], str], browser: Browser, home: Path, samples: Path) -> Walked:
    """Walk a way, and judge its pages."""
    audits: list[Audit] = []

    def audit_of(origin: str) -> Audit:
        audits.append(Audit(origin))
        return audits[0]

    printed = way(Place(browser=browser, home=home, samples=samples), audit_of)
    return Walked(audit=audits[0], home=home, printed=printed)


@pytest.fixture(scope="module")
def walked(browser: Browser, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The whole way, walked once."""
    return walk(whole_way, browser, tmp_path_factory.mktemp("walk") / "bot", shared / "reference")


@pytest.fixture(scope="module")
def by_phone(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Walked:
    """The set-up on a phone."""
    home = tmp_path_factory.mktemp("phone") / "bot"
    return walk(set_up_by_phone, browser, home, home)


@pytest.fixture(params=["walked", "by_phone"])
def each_way(request: pytest.FixtureRequest) -> Walked:
    """Each of the ways."""
    found: Walked = request.getfixturevalue(request.param)
    return found


def test_no_page_fails_or_asks_elsewhere(each_way: Walked) -> None:
    """No error on the console, no exception, nothing that the policy of content refuses, no foreign request."""
    assert each_way.audit.faults == []
    assert each_way.audit.foreign == []


def test_everybody_can_use_each_page(each_way: Walked) -> None:
    """WCAG 2.2 AA by axe, light and dark; no page is wider than a phone, no control too small, the focus is visible."""
    assert each_way.audit.unusable == []


def test_each_step_of_the_set_up_fits_a_phone(by_phone: Walked) -> None:
    """From the first admin to the dashboard; the trade's chart and the report are looked at on the other way."""
    steps = {f"setup-{one.name}" for one in STEPS if not one.later and one.name != "taken"}
    assert {"first-run", *steps, "setup-summary", "check", "dashboard"} <= set(by_phone.audit.seen)


def test_pages_of_a_day_are_looked_at_without_scripts_too(walked: Walked) -> None:
    """And a trade with its chart, and the report of a backtest."""
    plain = {f"{PLAIN}{path.strip('/') or 'dashboard'}" for path in WITHOUT_SCRIPTS}
    assert {"trade", "report", *plain} <= set(walked.audit.seen)


def test_the_way_leads_to_each_page(walked: Walked) -> None:
    """A new page of the navigation has to be looked at."""
    seen = {f"/{name}".replace("/dashboard", "/") for name in walked.audit.seen}
    assert {one.path for one in NAVIGATION} <= seen


def test_no_secret_is_shown_or_kept(walked: Walked) -> None:
    """What was typed is in no answer, cache, output or file; what the page makes is in the one answer that shows it."""
    assert walked.audit.read > 50
    assert walked.audit.leaks == []
    assert walked.audit.stored == []
    files = [path for path in walked.home.rglob("*") if path.is_file()]
    texts = [walked.printed, *(path.read_bytes().decode("latin-1") for path in files)]
    for secret in walked.audit.secrets:
        assert not any(secret in text for text in texts)


FAULTY = """
<!doctype html><html lang="en"><head><title>x</title><style>*:focus { outline: none }</style></head><body><main>
<h1>x</h1><img src="/x.png"><p id="wide" style="width: 2000px">x</p><button style="width: 9px; height: 9px">x</button>
<p>velvet otter</p></main><script>console.error("said"); fetch("http://127.0.0.1:9/elsewhere").catch(() => 0)</script>
</body></html>
"""


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("unusable", "image-alt"),
        ("unusable", "2008 px wide"),
        ("unusable", "button x: 16 x 9 px"),
        ("unusable", "focus: button x"),
        ("faults", "said"),
        ("faults", "img-src"),
        ("foreign", "http://127.0.0.1:9/elsewhere"),
        ("stored", "/faulty: no Cache-Control"),
        ("leaks", "/faulty: vel"),
    ],
)
def test_a_faulty_page_is_found(browser: Browser, place: str, said: str) -> None:
    """Each kind of fault that the pages must not have, on a page that has it."""
    audit = Audit("http://127.0.0.1:8", secrets={"velvet otter": ()})
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    policy = {"Content-Security-Policy": "img-src 'none'", "Content-Type": "text/html"}
    context.route("**/*", lambda asked: asked.fulfill(body=FAULTY, headers=policy))
    tab = audit.watch(context)
    tab.goto("http://127.0.0.1:8/faulty")
    audit.look(tab, "faulty")
    context.close()
    assert any(said in one for one in getattr(audit, place)), getattr(audit, place)


def test_a_faulty_page_is_found_without_scripts_too(browser: Browser) -> None:
    """As it stands there: what only <noscript> has is judged, and what a script would do is not."""
    audit = Audit("http://127.0.0.1:8")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False)
    page = FAULTY.replace("<img", '<noscript><img id="still" src="/y.png"></noscript><img')
    context.route("**/*", lambda asked: asked.fulfill(body=page, headers={"Content-Type": "text/html"}))
    tab = audit.watch(context, scripts=False)
    tab.goto("http://127.0.0.1:8/faulty")
    audit.look(tab, "faulty")
    context.close()
    assert any("image-alt: #still" in one for one in audit.unusable), audit.unusable
    assert not any("said" in one for one in audit.faults)


def test_axe_is_the_published_one() -> None:
    """Its version and licence are written down, and its hash."""
    table = (VENDOR / "README.md").read_text(encoding="utf-8")
    written = dict(re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", table))
    there = {path.name: path for path in VENDOR.iterdir() if path.name != "README.md"}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == written
    assert "axe v4.14.1" in AXE.read_text(encoding="utf-8")[:40]
