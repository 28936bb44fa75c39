"""HTML and SVG as values: text becomes markup only by being escaped, so nothing can be forgotten."""

from collections.abc import Iterable
from html import escape
from typing import Final

from orchestrator.reporting.words import visible

ATTRIBUTE_MAX: Final = 400
TEXT_MAX: Final = 1200
_VOID: Final = frozenset({"input", "meta", "br"})


class Html(str):
    """Markup. Only this module and constants of the page make it; any other text is escaped by ``el``."""

    __slots__ = ()


def el(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        children: ``Html`` stands as it is; anything else is made visible, cut and escaped; None is left out.
        attributes: ``class_`` and ``aria_label`` are written ``class`` and ``aria-label``; None and False are left
            out, True stands without a value.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Html(f"<{tag}{written}>")
    return Html(f"<{tag}{written}>{''.join(map(_child, children))}</{tag}>")


def join(parts: Iterable[Html]) -> Html:
    """Put markup side by side."""
    return Html("".join(parts))


def table(head: Iterable[str], rows: Iterable[Html], caption: str, *, name: str | None = None, kind: str = "") -> Html:
    """Return a table that scrolls by itself on a narrow screen and can be reached by keyboard.

    Args:
        head: Titles of the columns.
        rows: ``tr`` elements.
        caption: What the table shows, for those who do not see it.
        name: Its id.
        kind: Further classes of what scrolls.
    """
    titles = el("tr", *(el("th", title, scope="col") for title in head))
    body = el("table", el("thead", titles), el("tbody", *rows), id=name)
    return el("div", body, class_=f"scroll {kind}".strip(), tabindex=0, role="region", aria_label=caption)


def tr(*cells: object, **attributes: object) -> Html:
    """Return a row; cells that are ``td`` elements stand as they are."""
    return el("tr", *(_cell(cell) for cell in cells), **attributes)


def _cell(cell: object) -> Html:
    return cell if isinstance(cell, Html) and cell.startswith("<td") else el("td", cell)


def _child(child: object) -> str:
    if child is None:
        return ""
    return child if isinstance(child, Html) else escape(visible(str(child), TEXT_MAX))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-")
    return f" {written}" if value is True else f' {written}="{escape(visible(str(value), ATTRIBUTE_MAX))}"'
