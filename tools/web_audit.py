"""What a page must not do, found while a browser visits it: faults, foreign requests, and what a person cannot use."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from playwright.sync_api import Error, Response
from playwright.sync_api import Page as Tab
from web_browser import PATIENCE_MS, WIDTHS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import BrowserContext, ConsoleMessage, Request

VENDOR: Final = Path(__file__).parents[1] / "plugins/extensions/web/tests/browser/vendor"
AXE: Final = VENDOR / "axe.min.js"
RULES: Final = ("wcag2a", "wcag2aa", "wcag21aa", "wcag22aa")
SMALLEST_PX: Final = 24
"""The least size of a control, WCAG 2.2 AA 2.5.8."""

_ANSWER: Final = re.compile(r"^/answer/\w+\?of=")
_POLICY: Final = """
window.policyFaults = [];
document.addEventListener("securitypolicyviolation", (one) => window.policyFaults.push(
  `${one.violatedDirective} ${one.blockedURI} ${one.sourceFile}:${one.lineNumber}`));
"""
_AXE: Final = """
(only) => axe.run(document, { runOnly: only, resultTypes: ["violations"] }).then((found) => found.violations.flatMap(
  (rule) => rule.nodes.map((node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`)))
"""
_AS_IT_STANDS: Final = """
() => {
  const copy = document.documentElement.cloneNode(true);
  copy.querySelectorAll("script").forEach((one) => one.remove());
  copy.querySelectorAll("meta[http-equiv=refresh]").forEach((one) => one.remove());
  copy.querySelectorAll("noscript").forEach((one) => one.replaceWith(...one.childNodes));
  return `<!doctype html>${copy.outerHTML}`;
}
"""
_WIDE: Final = """
async () => (await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))),
  document.scrollingElement.scrollWidth <= innerWidth) ? [] : [...document.querySelectorAll("main *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".table, .answer, svg"))
  .map((one) => `${one.tagName.toLowerCase()}.${one.className}`).slice(0, 5).concat(
    `${document.scrollingElement.scrollWidth} px wide`)
"""
_SMALL: Final = """
(least) => [...document.querySelectorAll("button, summary, select, input:not([type=hidden]), nav a, a.button")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }))
  .map((one) => [one, ((one.type === "checkbox" || one.type === "radio") && one.closest("label") || one)
    .getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.width < least || box.height < least))
  .map(([one, box]) => `${one.tagName.toLowerCase()} ${one.name || one.textContent.trim()}: ${Math.round(box.width)} x `
    + `${Math.round(box.height)} px`)
"""
_UNSEEN_FOCUS: Final = """
() => [...document.querySelectorAll(
  "a[href], button:enabled, summary, select, input:not([type=hidden]), [tabindex='0']")]
  .filter((one) => one.checkVisibility({ visibilityProperty: true }))
  .filter((one) => {
    one.focus({ preventScroll: true });
    const style = getComputedStyle(one);
    return document.activeElement === one && !(style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1.5)
      && style.boxShadow === "none";
  })
  .map((one) => `${one.tagName.toLowerCase()} ${one.name || one.textContent.trim().slice(0, 40)}`)
"""


@contextmanager
def _copied(tab: Tab) -> Iterator[Tab]:
    # The page of a tab without scripts, as it stands there, in one in which axe runs: what is in <noscript> is shown.
    browser = tab.context.browser
    if browser is None:
        raise ValueError(tab.url)
    html = tab.evaluate(_AS_IT_STANDS)
    with browser.new_context(viewport=tab.viewport_size) as context:
        context.add_init_script(_POLICY)
        context.add_init_script(path=AXE)
        context.route(tab.url, lambda asked: asked.fulfill(body=html, content_type="text/html; charset=utf-8"))
        copy = context.new_page()
        copy.goto(tab.url)
        yield copy


@attrs.define(eq=False, slots=False)
class Audit:
    """The faults of the tabs of a browser, as sentences that begin with the page's path.

    `foreign` are requests to anywhere but the page, `stored` answers that a cache may keep, `leaks` secrets in answers.
    `secrets` are the texts that no answer may have, each with the pages that show it once.
    """

    origin: str
    faults: list[str] = attrs.field(factory=list)
    foreign: list[str] = attrs.field(factory=list)
    stored: list[str] = attrs.field(factory=list)
    leaks: list[str] = attrs.field(factory=list)
    unusable: list[str] = attrs.field(factory=list)
    seen: list[str] = attrs.field(factory=list)
    read: int = 0
    secrets: dict[str, tuple[str, ...]] = attrs.field(factory=dict, repr=False, kw_only=True)
    _answers: list[Response] = attrs.field(factory=list, repr=False)
    _plain: list[Tab] = attrs.field(factory=list, repr=False)

    def watch(self, context: BrowserContext, *, scripts: bool = True) -> Tab:
        """A new tab whose faults are noted."""
        context.set_default_timeout(PATIENCE_MS)
        if scripts:
            context.add_init_script(_POLICY)
            context.add_init_script(path=AXE)
        tab = context.new_page()
        if not scripts:
            self._plain.append(tab)
        tab.on("console", self._on_console)
        tab.on("pageerror", lambda fault: self.faults.append(f"{tab.url}: {fault}"))
        tab.on("request", self._on_request)
        tab.on("response", self._on_response)
        return tab

    def look(self, tab: Tab, name: str = "") -> None:
        """Judge the page that a tab shows, light and dark, on a desktop and on a phone."""
        path = name or tab.url.removeprefix(self.origin).partition("?")[0]
        self.seen.append(path)
        self.settle(tab)
        if tab not in self._plain:
            self._look(tab, path)
            return
        with _copied(tab) as copy:
            self._look(copy, path)

    def _look(self, tab: Tab, path: str) -> None:
        tab.bring_to_front()  # one behind another is not drawn
        self._note(path, tab.evaluate("() => window.policyFaults.splice(0)"), self.faults)
        self._note(path, tab.evaluate(_AXE, [*RULES]), self.unusable)
        tab.emulate_media(color_scheme="dark")
        self._note(f"{path} dark", tab.evaluate(_AXE, {"type": "rule", "values": ["color-contrast"]}), self.unusable)
        tab.emulate_media(color_scheme="light")
        size = tab.viewport_size
        for width in WIDTHS.values():
            tab.set_viewport_size({"width": width, "height": 844})
            self._note(f"{path} at {width}", tab.evaluate(_WIDE), self.unusable)
            self._note(f"{path} at {width}", tab.evaluate(_SMALL, SMALLEST_PX), self.unusable)
        if size is not None:
            tab.set_viewport_size(size)
        tab.keyboard.press("Tab")  # so that the browser shows where the focus is
        self._note(f"{path} focus", tab.evaluate(_UNSEEN_FOCUS), self.unusable)

    def settle(self, tab: Tab) -> None:
        """Judge the answers that a tab has got, before it leaves its page."""
        tab.wait_for_load_state("load")
        waiting, self._answers[:] = self._answers[:], []
        for answer in waiting:
            self._judge(answer)
        self._search(tab.url.removeprefix(self.origin), tab.content())

    def _judge(self, answer: Response) -> None:
        path = answer.url.removeprefix(self.origin)
        kind, cache = answer.headers.get("content-type", ""), answer.headers.get("cache-control", "")
        if cache != ("no-cache" if path.startswith("/static/") else "no-store"):
            self.stored.append(f"{path}: {cache or 'no Cache-Control'}")
        if path.startswith("/static/") or kind.startswith("text/event-stream") or 300 <= answer.status < 400:
            return
        try:
            text = answer.text()
        except (Error, UnicodeDecodeError):
            return  # the tab has left the page
        self.read += 1
        self._search(path, text)

    def _search(self, path: str, text: str) -> None:
        path = _ANSWER.sub("", path)
        self.leaks += [
            f"{path}: {one[:3]}…" for one, shown in self.secrets.items() if one in text and path not in shown
        ]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"}:
            self.faults.append(f"{message.location.get('url', '')}: {message.text}")

    def _on_response(self, answer: Response) -> None:
        self._answers.append(answer)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.origin}/", "data:")):
            self.foreign.append(request.url[:200])

    @staticmethod
    def _note(place: str, found: Sequence[Any], where: list[str]) -> None:
        where.extend(f"{place}: {one}" for one in found)
