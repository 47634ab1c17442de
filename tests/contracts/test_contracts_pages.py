"""Pages of plugins: what is no path, no name of a field or no block of the page is refused where it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tbot_core.contracts.pages import (
    Field,
    Form,
    GoTo,
    Heading,
    Link,
    Page,
    PagePermission,
    PageRequest,
    Paragraph,
    PluginRoute,
    Table,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def answer(_request: PageRequest) -> Page:
    """A page."""
    return Page(title="Months")


@pytest.mark.parametrize(
    "path", ["months", "/", "/../users", "//evil.example", "/a?b=c", "/{id}", "/A", "/a" * 5, None]
)
def test_a_path_leads_to_the_plugin_and_nowhere_else(path: Any) -> None:
    """A route, a link, a form and a redirect take "" and plain segments alone."""
    makers: list[Callable[[Any], object]] = [
        lambda given: PluginRoute(path=given, permission=PagePermission.READ, answer=answer),
        lambda given: Link("Months", given),
        lambda given: Form(path=given, button="Send"),
        GoTo,
    ]
    for make in makers:
        with pytest.raises(TypeError, match="path must be"):
            make(path)
        for right in ("", "/months", "/months/of-2026"):
            assert make(right)


@pytest.mark.parametrize("name", ["csrf", "", "First", "a-b", "a" * 65, 5])
def test_a_field_has_a_name_of_its_own(name: Any) -> None:
    """The name of the token that protects forms is not one."""
    with pytest.raises(TypeError, match="name must be"):
        Field(name=name, label="First day")
    assert Field(name="first_day", label="First day").value == ""


def test_a_page_takes_nothing_but_its_blocks() -> None:
    """HTML as text is no block, and a row has a text for each column."""
    page = Page(title="Months", blocks=[Heading("2026"), Paragraph("None."), Table(columns=["Month"], rows=[["5"]])])
    assert len(page.blocks) == 3
    with pytest.raises(TypeError):
        Page(title="Months", blocks=["<p>None.</p>"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="2 texts"):
        Table(columns=["Month", "P&L"], rows=[["May"]])
    with pytest.raises(TypeError):
        Table(columns=["P&L"], rows=[[5]])  # type: ignore[list-item]


class Disguised(str):
    """A text that writes itself into a page as it likes."""

    __slots__ = ()

    def __format__(self, _form: str) -> str:
        return "/../../risk/kill-clear"


class Wider(Form):
    """A block with a path of its own."""


def test_what_writes_itself_into_a_page_is_refused() -> None:
    """A subclass of a text, a field or a block is none of them."""
    makers: list[Callable[[], object]] = [
        lambda: Form(path=Disguised("/x"), button="Send"),
        lambda: GoTo(Disguised("/x")),
        lambda: Field(name=Disguised("day"), label="Day"),
        lambda: Field(name="day", label=Disguised("Day")),
        lambda: Paragraph(Disguised("None.")),
        lambda: Page(title="Months", blocks=[Wider(path="/x", button="Send")]),
    ]
    for make in makers:
        with pytest.raises(TypeError):
            make()


@pytest.mark.parametrize(
    "fields", [{"permission": "public"}, {"permission": "read"}, {"method": "PUT"}, {"answer": "no function"}]
)
def test_a_route_names_a_permission_of_the_contract(fields: dict[str, Any]) -> None:
    """A word is no permission, so that no plugin names one that the page keeps for itself."""
    given: dict[str, Any] = {"permission": PagePermission.READ, "answer": answer, **fields}
    with pytest.raises((TypeError, ValueError)):
        PluginRoute(**given)


def test_a_route_is_known_by_its_path_and_method() -> None:
    """The key by which two routes are the same."""
    assert PluginRoute(path="/months", permission=PagePermission.RUN, answer=answer).key == ("/months", "GET")
