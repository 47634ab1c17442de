"""The secrets: which are set, and forms that write them; no value ever comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException

from tbot_core.actions.secrets import (
    FORMED,
    SecretForm,
    category_listings,
    put_values,
    retire_old_keys,
    rotate_keys,
    secret_forms,
)
from tbot_core.actions.trials import try_stored_login
from tbot_core.errors import TbotError
from tbot_core.vault.categories import CATEGORIES
from tbot_extension_web.access.metrics_token import MetricsToken
from tbot_extension_web.pages import backups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response

    from tbot_extension_web.call import Call

FIELD: Final = "field."
REMOVED: Final = "remove."
ALL_REMOVED: Final = "remove-all"
"""The field that removes a plugin's section: a field that must be given cannot be removed alone."""

TITLES: Final = {
    "env": "Global settings (.env)",
    "env_bot": "Trading settings (.env_bot)",
    "login": "Users of this page",
    "broker": "Brokers",
    "screener_api": "Screeners and data sources",
    "alert": "Alert channels",
    "smtp": "Mail server",
    "acct_api": "Accounting service",
    "network": "Network of this page",
    "bot_identity": "Identity of the bot",
}
ELSEWHERE: Final = {"env": "/settings", "env_bot": "/settings", "login": "/users"}
"""The page on which a category without a form here is changed."""


async def show(call: Call) -> Response:
    """Each category with its state, and what concerns all of them."""
    return await _overview(call)


async def show_category(call: Call) -> Response:
    """The forms of a category."""
    return await _category_page(call, _category(call), saved=call.request.query_params.get("saved", ""))


async def write(call: Call) -> Response:
    """Store the fields that were filled in, and remove those that were marked; others stay as they are."""
    category, section = _category(call), call.form.get("section", "")
    form = next(
        (one for one in await call.work(secret_forms, call.site.home, category) if one.section == section), None
    )
    if form is None:
        raise HTTPException(404)
    values = _values(call.form, form)
    if not values:
        return await _category_page(call, category, fault="Nothing was entered: every field stays as it is.")
    told: list[str] = []
    given = {section: values} if section else values
    try:
        await call.work(put_values, call.site.home, category, given, told.append, actor=call.actor)
    except TbotError as fault:
        return await _category_page(call, category, fault=f"{fault.message} {fault.remedy}".strip(), at=section)
    if told:
        return await _category_page(call, category, saved=section or category, warnings=told)
    return call.to(f"/secrets/{category}?saved={quote(section or category)}")


async def test_broker(call: Call) -> Response:
    """Log in at a broker with the stored credentials; no order is sent."""
    name = call.form.get("section", "")
    if name not in {one.section for one in await call.work(secret_forms, call.site.home, "broker")}:
        raise HTTPException(404)
    told: list[str] = []
    step, live = await call.work(try_stored_login, call.site.home, name, told.append, actor=call.actor)
    return await _category_page(call, "broker", tested=(name, step, live), warnings=told)


async def rotate(call: Call) -> Response:
    """Give a category, or each, a new key; or finish what was interrupted."""
    chosen = call.form.get("category", "")
    if chosen and chosen not in CATEGORIES:
        raise HTTPException(404)
    named = (chosen,) if chosen else tuple(CATEGORIES)
    resume = call.form.get("resume") == "yes"
    done = await call.work(rotate_keys, call.site.home, named, resume=resume, actor=call.actor)
    lines = [f"{TITLES[one.category]}: the id of its key is now {one.after}." for one in done]
    retired = await call.work(retire_old_keys, call.site.home, call.actor)
    lines += [f"{TITLES[one]}: the key from before an earlier rotation is deleted." for one in retired]
    nothing = "No rotation was in progress." if resume else "No category has a key."
    return call.to("/secrets", *(lines or [nothing]))


async def make_metrics_token(call: Call) -> Response:
    """Make the token of /metrics; it is shown once."""
    token = await call.work(_metrics(call).make, call.user.user)
    return await _overview(call, token)


async def remove_metrics_token(call: Call) -> Response:
    """Remove the token: /metrics is not found then."""
    await call.work(_metrics(call).remove, call.user.user)
    return call.to("/secrets", "The token of /metrics is removed.")


def _metrics(call: Call) -> MetricsToken:
    return MetricsToken(call.site.home, call.site.logins.security)


def _category(call: Call) -> str:
    category: str = call.request.path_params["category"]
    if category not in FORMED:
        raise HTTPException(404)
    return category


def _values(form: Mapping[str, str], fields: SecretForm) -> dict[str, str | None]:
    # Only declared fields are read; None removes one.
    if fields.section and form.get(ALL_REMOVED):
        return dict.fromkeys(sorted(fields.stored))
    names = [field.name for field in fields.fields]
    removed = dict.fromkeys(name for name in (*names, *fields.unknown) if form.get(REMOVED + name))
    return {**removed, **{name: text for name in names if (text := form.get(FIELD + name, ""))}}


async def _overview(call: Call, token: str = "") -> Response:
    rows = await call.work(category_listings, call.site.home)
    has_token = await call.work(lambda: _metrics(call).exists)
    listed = await call.work(backups.listed, call.site.home)
    return call.page(
        "secrets.html",
        rows=rows,
        titles=TITLES,
        elsewhere=ELSEWHERE,
        token=token,
        has_token=has_token,
        now=call.site.clock.now(),
        **listed,
    )


async def _category_page(call: Call, category: str, **told: Any) -> Response:
    # `told`: what was saved, warnings, the fault of a section, the result of a tested login.
    forms = await call.work(secret_forms, call.site.home, category)
    if told.get("saved") not in {category, *(form.section for form in forms)}:
        told["saved"] = ""
    shown = {"fault": "", "at": "", "tested": None, "warnings": [], **told}
    status = 400 if shown["fault"] else 200
    return call.page("secrets_category.html", status, category=category, title=TITLES[category], forms=forms, **shown)
