"""A picture as SVG, laid out by Graphviz.

Graphviz places boxes of a known size and routes the lines between them. It measures no text, so
that the picture is the same on every machine, whatever fonts it has.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from identity_cli.errors import UsageError
from identity_cli.output.picture import EMAIL_FILL, PHONE_FILL, color_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from identity_cli.output.picture import Join, Node, Picture

_POINTS = 72  # in an inch, Graphviz's unit
_MARGIN = 16
_FONT = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
# Of a monospaced font: the advance of a character by the size of the font.
_ADVANCE = 0.61
_NODE_SIZE, _JOIN_SIZE, _CAPTION_SIZE = 13, 11, 13
_LINE_HEIGHT = 1.35


class _Box(NamedTuple):
    """A label with its font size and the room that it takes, in points."""

    lines: tuple[str, ...]
    size: int
    width: float
    height: float


class _Layout(NamedTuple):
    """The size of the whole, the centre of each box, and the control points of each line."""

    width: float
    height: float
    centers: dict[str, tuple[float, float]]
    curves: list[tuple[str, list[tuple[float, float]]]]


def check_svg() -> None:
    """Raise `UsageError` if the library for the layout is not installed."""
    try:
        import pygraphviz  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "SVG needs pygraphviz", hint="pip install 'identity-cli[plot]', or use --format dot"
        ) from error


def svg(picture: Picture) -> str:
    """Return the picture as one SVG document with a light background."""
    nodes = [_box(node.lines, _NODE_SIZE, padding=10) for node in picture.nodes]
    joins = [_box(join.lines, _JOIN_SIZE, padding=3) for join in picture.joins]
    caption = _box(picture.caption, _CAPTION_SIZE, padding=0)
    layout = _lay_out(picture, nodes, joins)
    width = max(layout.width, caption.width) + 2 * _MARGIN
    top = caption.height + 2 * _MARGIN
    height = layout.height + top + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}"'
        f' height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
        f"<title>{escape(picture.caption[0])}</title>",
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        f'<g font-family="{_FONT}" fill="#16202c">',
        _text(caption, _MARGIN, _MARGIN, anchor="start", is_bold=True),
        f'<g transform="translate({_MARGIN} {top:.0f})">',
    ]
    for index, (join, box) in enumerate(zip(picture.joins, joins, strict=True)):
        curves = [points for name, points in layout.curves if name == f"e{index}"]
        parts.append(_drawn_join(join, box, layout.centers[f"e{index}"], curves))
    for index, (node, box) in enumerate(zip(picture.nodes, nodes, strict=True)):
        parts.append(_drawn_node(node, box, layout.centers[f"v{index}"]))
    return "\n".join((*parts, "</g>", "</g>", "</svg>")) + "\n"


def _lay_out(picture: Picture, nodes: Sequence[_Box], joins: Sequence[_Box]) -> _Layout:
    from pygraphviz import AGraph

    ids = {node.value: f"v{i}" for i, node in enumerate(picture.nodes)}
    lines = ['graph { rankdir=LR; ranksep=0.25; node [shape=box, label="", fixedsize=true];']
    for name, boxes in (("v", nodes), ("e", joins)):
        lines += [
            f"{name}{i} [width={box.width / _POINTS:.3f}, height={box.height / _POINTS:.3f}];"
            for i, box in enumerate(boxes)
        ]
    for i, join in enumerate(picture.joins):
        weight = " [weight=8]" if join.is_hop else ""
        lines.append(f"{ids[join.value]} -- e{i} -- {ids[join.other_value]}{weight};")
    graph = AGraph(string="\n".join((*lines, "}")))
    try:
        return _read_plain(graph.draw(format="plain", prog="dot").decode())
    finally:
        graph.close()


def _read_plain(text: str) -> _Layout:
    """Read Graphviz's plain format, whose origin is at the bottom."""
    width = height = 0.0
    centers: dict[str, tuple[float, float]] = {}
    curves = []
    for line in text.splitlines():
        kind, *words = line.split(" ")
        if kind == "graph":
            width, height = float(words[1]) * _POINTS, float(words[2]) * _POINTS
        elif kind == "node":
            centers[words[0]] = (float(words[1]) * _POINTS, height - float(words[2]) * _POINTS)
        elif kind == "edge":
            numbers = list(map(float, words[3 : 3 + 2 * int(words[2])]))
            points = zip(numbers[::2], numbers[1::2], strict=True)
            name = words[0] if words[0].startswith("e") else words[1]
            curves.append((name, [(x * _POINTS, height - y * _POINTS) for x, y in points]))
    return _Layout(width, height, centers, curves)


def _drawn_join(
    join: Join,
    box: _Box,
    center: tuple[float, float],
    curves: Iterable[Sequence[tuple[float, float]]],
) -> str:
    dashes = "" if join.is_contact else ' stroke-dasharray="6 4"'
    width = 3 if join.is_hop else 1.3
    lines = [
        f'<path d="{_path(points)}" fill="none" stroke="{color_of(join)}"'
        f' stroke-width="{width}"{dashes}/>'
        for points in curves
    ]
    left, top = center[0] - box.width / 2, center[1] - box.height / 2
    return "\n".join(
        (
            f'<g class="join"><title>{escape(join.title)}</title>',
            *lines,
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}"'
            f' height="{box.height:.1f}" fill="#ffffff"/>',
            _text(box, center[0], top + 3, fill=color_of(join)),
            "</g>",
        )
    )


def _drawn_node(node: Node, box: _Box, center: tuple[float, float]) -> str:
    left, top = center[0] - box.width / 2, center[1] - box.height / 2
    fill, stroke = (EMAIL_FILL, "#1f5fa8") if node.is_email else (PHONE_FILL, "#1d7a3a")
    return "\n".join(
        (
            f'<g class="value"><title>{escape(node.title)}</title>',
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{box.width:.1f}"'
            f' height="{box.height:.1f}" rx="7" fill="{fill}" stroke="{stroke}"'
            f' stroke-width="{3 if node.is_marked else 1}"/>',
            _text(box, center[0], top + 10, is_bold=True),
            "</g>",
        )
    )


def _text(
    box: _Box,
    x: float,
    top: float,
    *,
    anchor: str = "middle",
    fill: str | None = None,
    is_bold: bool = False,
) -> str:
    colour = "" if fill is None else f' fill="{fill}"'
    lines = []
    for i, line in enumerate(box.lines):
        y = top + (i + 0.78) * box.size * _LINE_HEIGHT
        weight = ' font-weight="bold"' if is_bold and i == 0 else ""
        lines.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{box.size}"'
            f' text-anchor="{anchor}"{colour}{weight}>{escape(line)}</text>'
        )
    return "\n".join(lines)


def _path(points: Sequence[tuple[float, float]]) -> str:
    first, *rest = (f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{first}C{' '.join(rest)}"


def _box(lines: tuple[str, ...], size: int, *, padding: int) -> _Box:
    width = max(map(_columns, lines)) * size * _ADVANCE + 2 * padding
    return _Box(lines, size, width, len(lines) * size * _LINE_HEIGHT + 2 * padding)


def _columns(text: str) -> int:
    """Return how many columns of a monospaced font the text takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
