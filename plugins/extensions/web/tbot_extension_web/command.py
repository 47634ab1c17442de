"""`tbot web`: serves the page of an instance."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from tbot_core.cli.options import BoundedInt, home_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tbot_core.instance import Instance
    from tbot_extension_web.opening import OpenedSite


@click.command("web")
@click.option("--port", type=BoundedInt(1, 65_535), help="Listen port. Default: that of network_config, else 8443.")
@home_option
def command(*, port: int | None, home: Path | None) -> None:
    """Serve the page of an instance: set it up, watch the bot and control it.

    It is a process of its own: the bot trades on when it ends, and it shows the last state when the bot ends. In an
    empty folder, or one with a .env_bot, it sets the instance up. Without accounts it prints a link for the first
    admin, valid for 30 minutes on this machine.
    """
    from tbot_core.cli.options import resolve_home
    from tbot_core.instance import Instance
    from tbot_core.instance.sources import is_set_up, keep_opened_settings
    from tbot_core.model.clock import SystemClock
    from tbot_core.system import log
    from tbot_core.system.secure_memory import harden
    from tbot_extension_web.app import create_app
    from tbot_extension_web.opening import open_site, set_up_address
    from tbot_extension_web.plugin_routes import routes_of
    from tbot_extension_web.server import bound, listening

    for sentence in harden():
        click.echo(f"tbot: {sentence}", err=True)
    instance = Instance.at(resolve_home(home))
    with _page_lock(instance) as say_purpose:  # a second page opens and changes nothing
        if not is_set_up(instance):
            with bound(set_up_address(instance, port), configured=False):
                pass  # a set-up is begun only where its page can be served
        opened = open_site(instance.home, SystemClock(), port)
        log.configure("info", "json", instance.logs / "web", screen=False)
        try:
            app = create_app(opened.site, routes_of(opened.site))
            with listening(app, opened.address, opened.site.live.end) as serve:
                say_purpose(opened.address.url)
                _say(opened)
                with keep_opened_settings():
                    serve()
        finally:
            opened.store.close()


@contextmanager
def _page_lock(instance: Instance) -> Iterator[Callable[[str], None]]:
    # The lock of the folder's page. Raises AccessError, with its address, where a page of the folder runs.
    from tbot_core.errors import AccessError
    from tbot_core.system import filesystem

    with ExitStack() as held:
        try:
            say_purpose = held.enter_context(filesystem.hold_lock(instance.page_lock))
        except AccessError as fault:
            holder, url = filesystem.lock_holder(instance.page_lock), filesystem.lock_purpose(instance.page_lock)
            if holder is None:
                raise
            where = f", at {url}" if url else ""
            message = f"The page of {instance.home} runs already{where} (process {holder})."
            raise AccessError(message, "Open that address, or end that process first.") from fault
        yield say_purpose


def _say(opened: OpenedSite) -> None:
    # Where the page is, and who is asked for; in one piece, for who reads it as it comes.
    lines = []
    if opened.site.setup is not None:
        lines.append(f"{opened.site.home} is no instance yet: the page sets it up, and goes on where it was.")
    if opened.waits is not None:
        lines.append(
            f"No admin has one-time codes, which every login at {opened.waits.url} needs: the page listens on this "
            "machine only. Turn them on under Your account, and start it again."
        )
    lines.append(f"The page is at {opened.address.url} (Ctrl-C ends it; the bot is another process).")
    if (link := opened.make_link()) is not None:  # `token=` would be redacted, as in every output
        lines.append(f"Make the first admin within 30 minutes: {opened.address.url}first-run?link={link}")
    click.echo("\n".join(lines))
