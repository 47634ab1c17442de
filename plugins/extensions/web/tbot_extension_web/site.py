"""What the handlers of the page share: the instance, the clock, who may log in, the templates, the live view."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
import jinja2

from tbot_core.actions.assembly import is_rehearsed
from tbot_core.actions.service import HOST
from tbot_core.instance.plugin_settings import invented_market_note
from tbot_core.reports.summary import SIMULATED_PRICES
from tbot_extension_web import texts
from tbot_extension_web.access.denials import Denials
from tbot_extension_web.access.permissions import Permission
from tbot_extension_web.day_view import day_view
from tbot_extension_web.live import LiveView, Snapshot
from tbot_extension_web.notices import Answers, AskedRequests, Notices, SentForms

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    from jinja2.bccache import Bucket
    from markupsafe import Markup

    from tbot_core.actions.setup_draft import SetUp
    from tbot_core.model.clock import Clock
    from tbot_extension_web.access.logins import Logins, Session
    from tbot_extension_web.first_run import FirstRun
    from tbot_extension_web.headers import Origin

_ACCOUNTS: Final = frozenset({"paper", "live", "rehearsal"})
AT_ONCE: Final = 2
"""How many requests compute at once what takes seconds."""

FOLDER: Final = Path(__file__).parent
PARTS: Final = ("state", "figures", "timeline", "chart", "positions", "orders", "events", "health")
"""The parts of the dashboard that change as the bot runs; each is a template in `parts`."""


@attrs.frozen(kw_only=True)
class Badge:
    """What every page says of the account that is traded, or would be: `mode` is paper, live or rehearsal.

    A set-up has simulation, or rehearsal where TBOT_REHEARSAL names one, and a `label` in its place.
    """

    mode: str
    identity: str
    label: str = ""

    @property
    def text(self) -> str:
        """The mode in capitals."""
        return self.label or self.mode.upper()


@attrs.frozen(kw_only=True)
class SessionLeft:
    """The whole seconds until a session ends: `idle_s` if nothing is clicked, `whole_s` in any case."""

    idle_s: int
    whole_s: int


class Site:
    """The page of one instance.

    `first_run` is what the page of an instance without an admin has beside the usual, `setup` the set-up of a folder
    that is no instance yet; None where there is none. `navigation`: the pages that it names, those of plugins too.
    `streams` are the open ones by session.
    """

    def __init__(self, home: Path, clock: Clock, origin: Origin, logins: Logins, identity: str = "") -> None:
        self.home = home
        self.clock = clock
        self.origin = origin
        self.logins = logins
        self.identity = identity
        self.first_run: FirstRun | None = None
        self.setup: SetUp | None = None
        self.navigation: tuple[NavigationItem, ...] = NAVIGATION
        self.denials = Denials(lambda: self.logins.security, clock)
        self.notices, self.answers = Notices(), Answers(clock)
        self.sent, self.asked = SentForms(clock), AskedRequests(clock)
        self.service_host = HOST
        self.templates = _environment(home)
        self.streams: Counter[int] = Counter()
        self.computing = asyncio.Semaphore(AT_ONCE)
        self.live = LiveView(home, clock, self._parts)

    def session_left(self, session: Session | None) -> SessionLeft | None:
        """How long the session lasts from now on; None without one."""
        found = [] if session is None else self.logins.sessions(session.user)
        own = next((one for one in found if session is not None and one.id == session.id), None)
        if own is None:
            return None
        rules = self.logins.rules
        whole = rules.absolute_s - (self.clock.now() - own.started).total_seconds()
        return SessionLeft(idle_s=max(int(rules.idle_s - own.idle_s), 0), whole_s=max(int(whole), 0))

    def has_codes(self, session: Session | None) -> bool:
        """Whether the user of a session has one-time codes."""
        account = None if session is None else self.logins.accounts.read().get(session.user)
        return account is not None and account.totp is not None

    def badge(self) -> Badge:
        """The account as every page names it."""
        if self.setup is not None:
            rehearsed = is_rehearsed()
            label = "SET-UP IN A REHEARSAL" if rehearsed else "SET-UP"
            return Badge(mode="rehearsal" if rehearsed else "simulation", identity="", label=label)
        found = self.live.latest
        mode = (found.status.get("mode") or "").lower() if found.status.get("of_account") else ""
        traded = mode == "rehearsal" or (mode == "live" and found.status.get("running"))
        return Badge(mode=mode if traded else found.account_mode, identity=self.identity)

    def _parts(self, snapshot: Snapshot) -> dict[str, str]:
        day = day_view(snapshot.status, snapshot.day)
        values = {"status": snapshot.status, "day": day, "fault": snapshot.fault, "badge": self.badge()}
        return {name: self.templates.get_template(f"parts/{name}.html").render(**values) for name in PARTS}


@attrs.frozen(kw_only=True)
class NavigationItem:
    """A page in the navigation, for who may see it."""

    path: str
    title: str
    permission: Permission = Permission.READ


NAVIGATION: Final = (
    NavigationItem(path="/", title="Dashboard"),
    NavigationItem(path="/risk", title="Risk"),
    NavigationItem(path="/trades", title="Trades"),
    NavigationItem(path="/decisions", title="Decisions"),
    NavigationItem(path="/confirmations", title="Confirmations"),
    NavigationItem(path="/runs", title="Runs"),
    NavigationItem(path="/alerts", title="Alerts"),
    NavigationItem(path="/settings", title="Settings"),
    NavigationItem(path="/plugins", title="Plugins"),
    NavigationItem(path="/secrets", title="Secrets", permission=Permission.SECRETS),
    NavigationItem(path="/users", title="Users", permission=Permission.USERS),
    NavigationItem(path="/audit", title="Audit"),
    NavigationItem(path="/logs", title="Logs"),
)
"""The pages in the order of the navigation."""


class _CompiledTemplates(jinja2.BytecodeCache):
    # Filters differ by the instance's folder, what a template compiles to does not: sites of one process share it.
    def __init__(self) -> None:
        self._codes: dict[str, CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._codes.get(f"{bucket.key} {bucket.checksum}")

    def dump_bytecode(self, bucket: Bucket) -> None:
        if bucket.code is not None:
            self._codes[f"{bucket.key} {bucket.checksum}"] = bucket.code


_COMPILED: Final = _CompiledTemplates()


def _environment(home: Path) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        bytecode_cache=_COMPILED,
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(texts.FILTERS)
    made.filters["prose"] = partial(_prose, f"{home}")
    made.filters["command"] = lambda text: texts.command(text, f"{home}")
    made.globals["simulated_prices_words"] = SIMULATED_PRICES
    made.globals["invented_market_words"] = invented_market_note()
    made.tests["simulation"] = lambda mode: bool(mode) and mode.lower() not in _ACCOUNTS
    return made


_FOR_ALL: Final = tuple(one for one in NAVIGATION if one.permission is Permission.READ)


def _prose(home: str, text: str, pages: Iterable[NavigationItem] = _FOR_ALL) -> Markup:
    return texts.prose(text, home, {page.path: page.title for page in pages})
