"""Every route of the page, as data: a request that matches none is not found, and one without its permission denied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import attrs

from tbot_extension_web.access.permissions import Permission
from tbot_extension_web.forms import LargeFile
from tbot_extension_web.notices import ANSWER
from tbot_extension_web.pages import (
    account,
    alerts,
    audit,
    backups,
    check,
    confirmations,
    dashboard,
    decisions,
    first_run,
    live,
    login,
    plugins,
    risk,
    runs,
    secrets,
    service,
    settings,
    setup,
    trades,
    users,
)
from tbot_extension_web.posts import answered, forget_answers, is_sure, show_answer
from tbot_extension_web.setup.begin_steps import BACKUP, UPLOADS

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call
    from tbot_extension_web.posts import Question

Endpoint = Callable[["Call"], Awaitable["Response"]]
Ask = Callable[["Call"], Awaitable["Question"]]


class Stage(Enum):
    """When a route is there: of an instance, of the set-up of one, or always."""

    MADE = auto()
    SET_UP = auto()
    ALWAYS = auto()


@attrs.frozen(kw_only=True)
class WebRoute:
    """A route: `method` GET or POST, the path as Starlette writes it, and the permission that it needs.

    `stepped_up`: whether the user must have entered the password again within the last minutes. `stage` is when the
    route is there: during a set-up every other one leads to it, and after it there is no set-up. `form` is the page
    with the form of a POST or the link to a file, where that is not the nearest page above its path. `unkept`: what its
    form holds is not kept while the password is asked for; it is sent again then. `files` are the fields of its form
    that may be files, `upload` is one that goes to the disk. `asks` gives the question that comes before what a POST
    does, which `does` says in a few words.
    """

    method: str
    path: str
    permission: Permission
    handler: Endpoint = attrs.field(alias="endpoint")
    stepped_up: bool = False
    stage: Stage = Stage.MADE
    form: str = ""
    unkept: bool = False
    files: frozenset[str] = frozenset()
    upload: LargeFile | None = None
    asks: Ask | None = None
    does: str = ""

    def asks_first(self, call: Call) -> bool:
        """Whether the answer to the request is a question, with which nothing is done."""
        return self.asks is not None and not is_sure(call)

    async def endpoint(self, call: Call) -> Response:
        """Answer the request. A form of a session gets a page that a reload only shows; a part of a page does not."""
        if self.method != "POST" or call.session is None or call.partial:
            return await self.handler(call)
        return await answered(call, self.handler, self.asks)

    @property
    def name(self) -> str:
        """Its name in logs and in the matrix of tests."""
        return f"{self.method} {self.path}"

    def page(self, pages: Iterable[str]) -> str:
        """The path of the page from which its request comes, as Starlette writes it; `pages` are those of the table."""
        path = self.form or self.path
        while path and path not in {self.form, *pages}:
            path = path.rpartition("/")[0]
        return path or "/"


def _get(path: str, permission: Permission, endpoint: Endpoint, **more: Any) -> WebRoute:
    return WebRoute(method="GET", path=path, permission=permission, endpoint=endpoint, **more)


def _post(path: str, permission: Permission, endpoint: Endpoint, **more: Any) -> WebRoute:
    return WebRoute(method="POST", path=path, permission=permission, endpoint=endpoint, **more)


def _with_password(path: str, permission: Permission, endpoint: Endpoint, does: str, **more: Any) -> WebRoute:
    return _post(path, permission, endpoint, stepped_up=True, does=does, **more)


def _asked(route: WebRoute, asks: Ask | None) -> WebRoute:
    return attrs.evolve(route, asks=asks)


def _at(stage: Stage, *routes: WebRoute) -> tuple[WebRoute, ...]:
    return tuple(attrs.evolve(route, stage=stage) for route in routes)


ROUTES: Final = (
    *_at(
        Stage.ALWAYS,
        _get("/healthz", Permission.PUBLIC, live.health),
        _get("/metrics", Permission.METRICS, live.metrics),
        _get("/first-run", Permission.FIRST_RUN, first_run.show),
        _post("/first-run", Permission.FIRST_RUN, first_run.make_admin),
        _get("/login", Permission.PUBLIC, login.show),
        _post("/login", Permission.PUBLIC, login.log_in),
        _post("/logout", Permission.OWN, login.log_out),
        _get("/step-up", Permission.OWN, login.show_step_up),
        _post("/step-up", Permission.OWN, login.step_up),
        _get(ANSWER, Permission.OWN, show_answer),
        _post("/answer/forget", Permission.OWN, forget_answers, form="/"),
    ),
    *_at(
        Stage.SET_UP,
        _get("/setup", Permission.CONFIGURE, setup.begin),
        _post("/setup/create", Permission.CONFIGURE, setup.create),
        _post(
            "/setup/restore",
            Permission.CONFIGURE,
            backups.restore,
            files=frozenset({BACKUP}),
            form="/setup/begin",
        ),
        _get("/setup/{step}", Permission.CONFIGURE, setup.show),
        _post("/setup/{step}", Permission.CONFIGURE, setup.send, files=UPLOADS),
        _post("/setup/{step}/test", Permission.CONFIGURE, setup.test, files=UPLOADS),
        _post("/setup/{step}/field", Permission.CONFIGURE, setup.judge_field, files=UPLOADS),
    ),
    _get("/check", Permission.READ, check.show),
    _get("/", Permission.READ, dashboard.show),
    _get("/live/dashboard", Permission.READ, dashboard.stream),
    _get("/confirmations", Permission.READ, confirmations.show),
    _get("/confirmations/waiting", Permission.READ, confirmations.waiting),
    _post("/confirmations/approve", Permission.CONFIRM, confirmations.approve),
    _post("/confirmations/reject", Permission.CONFIRM, confirmations.reject),
    _get("/risk", Permission.READ, risk.show),
    _get("/risk/state", Permission.READ, risk.state),
    _get("/settings", Permission.READ, settings.show),
    _post("/settings/review", Permission.CONFIGURE, settings.review),
    _post("/settings/save", Permission.CONFIGURE, settings.save),
    _post("/settings/encrypt", Permission.CONFIGURE, settings.encrypt),
    _get("/settings/{group}", Permission.READ, settings.show_group),
    _get("/secrets", Permission.SECRETS, secrets.show),
    _with_password("/secrets/rotate", Permission.SECRETS, secrets.rotate, "New keys for the secrets"),
    _post(
        "/secrets/metrics-token",
        Permission.SECRETS,
        secrets.make_metrics_token,
        stepped_up=True,
        does="A new token of /metrics",
    ),
    _post(
        "/secrets/metrics-token/remove",
        Permission.SECRETS,
        secrets.remove_metrics_token,
        stepped_up=True,
        does="Remove the token of /metrics",
    ),
    _post(
        "/secrets/broker/test",
        Permission.SECRETS,
        secrets.test_broker,
        stepped_up=True,
        does="Test the broker's login",
        form="/secrets/broker",
    ),
    _with_password("/secrets/backups", Permission.SECRETS, backups.make, "Write a backup", unkept=True),
    _with_password("/secrets/backups/try", Permission.SECRETS, backups.drill, "Try a backup", unkept=True),
    _get("/secrets/backups/{name}", Permission.SECRETS, backups.download, stepped_up=True, form="/secrets"),
    _get("/secrets/{category}", Permission.SECRETS, secrets.show_category),
    _with_password("/secrets/{category}", Permission.SECRETS, secrets.write, "Save secrets"),
    _get("/users", Permission.USERS, users.show),
    _with_password("/users/add", Permission.USERS, users.add, "Add a user"),
    _with_password("/users/role", Permission.USERS, users.set_role, "Change a user's role"),
    _with_password("/users/password", Permission.USERS, users.set_password, "Set a user's password"),
    _with_password("/users/codes-off", Permission.USERS, users.codes_off, "Turn a user's one-time codes off"),
    _asked(_with_password("/users/remove", Permission.USERS, users.remove, "Remove a user"), users.removal),
    _with_password("/users/unlock", Permission.USERS, users.unlock, "Unlock a user"),
    _with_password("/users/end-sessions", Permission.USERS, users.end_sessions, "End a user's sessions"),
    _get("/audit", Permission.READ, audit.show),
    _post("/audit/verify", Permission.READ, audit.verify),
    _get("/logs", Permission.READ, audit.show_logs),
    _get("/account", Permission.OWN, account.show),
    _get("/account/session", Permission.OWN, account.left),
    _post("/account/password", Permission.OWN, account.change_password),
    _get("/account/codes", Permission.OWN, account.show_codes, stepped_up=True),
    _with_password("/account/codes", Permission.OWN, account.begin_codes, "Turn one-time codes on"),
    _post(
        "/account/codes/off",
        Permission.OWN,
        account.end_codes,
        stepped_up=True,
        does="Turn your one-time codes off",
        form="/account",
    ),
    _post("/account/sessions/end", Permission.OWN, account.end_session),
    *(
        _asked(
            _post(one.path, one.permission, risk.act, stepped_up=one.stepped_up, does=one.label),
            risk.question if one.sure else None,
        )
        for one in risk.ACTS
    ),
    _get("/service", Permission.READ, service.show),
    _with_password("/service/start", Permission.CONTROL, service.start, "Start the bot", form="/"),
    _asked(_post("/service/stop", Permission.CONTROL, service.stop, form="/"), service.question),
    _get("/decisions", Permission.READ, decisions.show),
    _get("/decisions/day", Permission.READ, decisions.show_day),
    _get("/trades", Permission.READ, trades.show),
    _get("/trades/{id}", Permission.READ, trades.show_one),
    _get("/runs", Permission.READ, runs.show),
    _post("/runs", Permission.RUN, runs.start),
    _post("/runs/import", Permission.RUN, runs.start_import, upload=runs.UPLOAD),
    _get("/runs/started/{id}", Permission.READ, runs.show_started),
    _get("/runs/started/{id}/progress", Permission.READ, runs.progress),
    _post("/runs/started/{id}/cancel", Permission.RUN, runs.cancel),
    _get("/runs/{name}/report", Permission.READ, runs.report),
    _get("/runs/{name}/trades.csv", Permission.READ, runs.trades_csv),
    _get("/alerts", Permission.READ, alerts.show),
    _post("/alerts/acknowledge", Permission.RUN, alerts.acknowledge),
    _post("/alerts/test", Permission.RUN, alerts.test),
    _get("/plugins", Permission.READ, plugins.show),
    _get("/plugins/{kind}/{name}", Permission.READ, plugins.show_one),
    _asked(
        _with_password("/plugins/approve", Permission.CONFIGURE, plugins.approve, "Approve the plugins"),
        plugins.question,
    ),
)
"""The matrix of tests is generated from this table."""
