"""Every route of the page, as data: a request that matches none is not found, and one without its permission denied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import attrs

from tbot_extension_web.pages import (
    alerts,
    confirmations,
    dashboard,
    decisions,
    live,
    login,
    plugins,
    risk,
    runs,
    trades,
)
from tbot_extension_web.permissions import Permission

if TYPE_CHECKING:
    from starlette.responses import Response

    from tbot_extension_web.call import Call

Endpoint = Callable[["Call"], Awaitable["Response"]]


@attrs.frozen(kw_only=True)
class WebRoute:
    """A route: `method` GET or POST, the path as Starlette writes it, and the permission that it needs.

    `stepped_up`: whether the user must have entered the password again within the last minutes.
    """

    method: str
    path: str
    permission: Permission
    endpoint: Endpoint
    stepped_up: bool = False

    @property
    def name(self) -> str:
        """Its name in logs and in the matrix of tests."""
        return f"{self.method} {self.path}"


def _get(path: str, permission: Permission, endpoint: Endpoint) -> WebRoute:
    return WebRoute(method="GET", path=path, permission=permission, endpoint=endpoint)


def _post(path: str, permission: Permission, endpoint: Endpoint, *, stepped_up: bool = False) -> WebRoute:
    return WebRoute(method="POST", path=path, permission=permission, endpoint=endpoint, stepped_up=stepped_up)


ROUTES: Final = (
    _get("/healthz", Permission.PUBLIC, live.health),
    _get("/login", Permission.PUBLIC, login.show),
    _post("/login", Permission.PUBLIC, login.log_in),
    _post("/logout", Permission.OWN, login.log_out),
    _get("/step-up", Permission.OWN, login.show_step_up),
    _post("/step-up", Permission.OWN, login.step_up),
    _get("/", Permission.READ, dashboard.show),
    _get("/live/dashboard", Permission.READ, dashboard.stream),
    _get("/confirmations", Permission.READ, confirmations.show),
    _get("/confirmations/waiting", Permission.READ, confirmations.waiting),
    _post("/confirmations/approve", Permission.CONFIRM, confirmations.approve),
    _post("/confirmations/reject", Permission.CONFIRM, confirmations.reject),
    _get("/risk", Permission.READ, risk.show),
    *(_post(one.path, one.permission, risk.act, stepped_up=one.stepped_up) for one in risk.ACTS),
    _get("/decisions", Permission.READ, decisions.show),
    _get("/decisions/day", Permission.READ, decisions.show_day),
    _get("/trades", Permission.READ, trades.show),
    _get("/trades/{id}", Permission.READ, trades.show_one),
    _get("/runs", Permission.READ, runs.show),
    _post("/runs", Permission.RUN, runs.start),
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
)
"""The matrix of tests is generated from this table."""
