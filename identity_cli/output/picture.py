"""What a picture of an explanation shows: values, the rows that join them, and a caption."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from identity_cli.graph.chains import first_links, nearest
from identity_cli.graph.explanation import ChainExplanation
from identity_cli.output.provenance import one_line, place_of, size_of, time_of

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from identity_cli.graph.chains import Hop, Links
    from identity_cli.graph.evidence import Evidence, Sources
    from identity_cli.graph.explanation import IdentityExplanation

# A person reads no more than this, and a layout of several hundred values takes seconds.
_VALUES_DRAWN = 60
_BREADTH_DRAWN = 12
_JOINS_DRAWN = 90
_HOPS_DRAWN_AT_AN_END = 15
_LABEL_MAX = 44

_LEGEND = "solid: a contact shows both values; dashed: a later request had both"


class Node(NamedTuple):
    """A value. `lines` are its label, `title` is all that is known of it."""

    value: str
    lines: tuple[str, ...]
    title: str
    is_marked: bool

    @property
    def is_email(self) -> bool:
        return "@" in self.value


class Join(NamedTuple):
    """A row between two values, or hops that are left out. `hop` is whether the chain has it."""

    value: str
    other_value: str
    lines: tuple[str, ...]
    title: str
    is_contact: bool
    is_merge: bool
    is_hop: bool


class Picture(NamedTuple):
    """Nodes, joins between them, and the lines of the caption; `is_pruned` if more is stored."""

    caption: tuple[str, ...]
    nodes: tuple[Node, ...]
    joins: tuple[Join, ...]
    is_pruned: bool


def picture_of(explained: ChainExplanation | IdentityExplanation) -> Picture:
    """Return the picture of the chain and what is near it, or of the identity from its primary."""
    evidence, links = explained.evidence, explained.links
    is_chain = isinstance(explained, ChainExplanation)
    hops = explained.hops if isinstance(explained, ChainExplanation) else ()
    hops, skipped = _cut(hops)
    # From the left to the right: the layout follows the order of the values.
    along = [value for hop in hops for value in hop[:2]] or explained.values[:1]
    shown = nearest(links, along, limit=_VALUES_DRAWN, breadth=_BREADTH_DRAWN)
    order = {value: place for place, value in enumerate(shown)}
    rows = _joining_rows(shown, hops, evidence.rows())
    drawn = rows[:_JOINS_DRAWN]
    hop_rows = {hop.row for hop in hops}
    joins = [_join(row, order, evidence.sources, is_hop=row in hop_rows) for row in drawn]
    if skipped:
        joins.append(_gap(skipped))
    origins = evidence.origins
    nodes = [
        _node(value, origins.get(value), links, order, evidence.sources, {along[0], along[-1]})
        for value in shown
    ]
    is_pruned = bool(skipped) or len(shown) < len(links) or len(drawn) < len(rows)
    caption = [size_of(evidence, len(links))]
    if is_pruned:
        caption.append(
            f"pruned to {len(shown):,} values and {len(drawn):,} rows"
            f" nearest to the {'chain' if is_chain else 'primary'}"
        )
    caption.append(_LEGEND + ("; thick: the chain" if is_chain else ""))
    return Picture(tuple(caption), tuple(nodes), tuple(joins), is_pruned)


def _cut(hops: tuple[Hop, ...]) -> tuple[tuple[Hop, ...], tuple[Hop, ...]]:
    """Return the hops at both ends of a chain, and those between if there are too many."""
    if len(hops) <= 2 * _HOPS_DRAWN_AT_AN_END:
        return hops, ()
    ends = hops[:_HOPS_DRAWN_AT_AN_END] + hops[-_HOPS_DRAWN_AT_AN_END:]
    return ends, hops[_HOPS_DRAWN_AT_AN_END:-_HOPS_DRAWN_AT_AN_END]


def _joining_rows(
    shown: Sequence[str], hops: Iterable[Hop], rows: Iterable[Evidence]
) -> list[Evidence]:
    """Return the rows between shown values, the most important ones first."""
    values = set(shown)
    between = [row for row in rows if row.value in values and row.other_value in values]
    tree = (branch.link for branch in first_links(between, shown[0]))
    important = [hop.row for hop in hops] + [row for row in tree if row is not None]
    pairs: set[tuple[str, str | None]] = set()
    chosen = []
    for row in (*important, *between):
        if (row.value, row.other_value) not in pairs:
            pairs.add((row.value, row.other_value))
            chosen.append(row)
    return chosen


def _node(
    value: str,
    origin: Evidence | None,
    links: Links,
    shown: Container[str],
    sources: Sources,
    ends: Container[str],
) -> Node:
    lines = [_short(value)]
    title = [value]
    if origin is not None:
        place = place_of(origin, sources)
        # The line of a contact with two values shows where it comes from.
        is_alone = origin.other_value is None
        lines.append(f"{origin.name}, {_short_place(place)}" if is_alone else origin.name)
        title.append(f"brought by {origin.name}, {place}, {time_of(origin)}")
    hidden = len({other for other, _ in links.get(value, ()) if other not in shown})
    if hidden:
        lines.append(f"and {hidden:,} more value{'' if hidden == 1 else 's'}")
    return Node(value, tuple(map(one_line, lines)), one_line("; ".join(title)), value in ends)


def _join(row: Evidence, order: Mapping[str, int], sources: Sources, *, is_hop: bool) -> Join:
    place = place_of(row, sources)
    lines = [row.name, _short_place(place)]
    if row.merged_id is not None:
        lines.append(f"merged {row.merged_id} into {row.primary_id}")
    run = "" if row.run_id is None else f", run {row.run_id}"
    value, other = sorted((row.value, str(row.other_value)), key=order.__getitem__)
    return Join(
        value,
        other,
        tuple(map(one_line, lines)),
        one_line(f"{row.name}{run}, {place}, {time_of(row)}"),
        is_contact=row.contact_id is not None,
        is_merge=row.merged_id is not None,
        is_hop=is_hop,
    )


def _gap(skipped: Sequence[Hop]) -> Join:
    text = f"{len(skipped):,} more hops"
    return Join(skipped[0].value, skipped[-1].other_value, (text,), text, False, False, is_hop=True)


def _short(text: str) -> str:
    if len(text) <= _LABEL_MAX:
        return text
    half = _LABEL_MAX // 2
    return f"{text[:half]}…{text[-half + 1 :]}"


def _short_place(place: str) -> str:
    return place if len(place) <= _LABEL_MAX else f"…{place[-_LABEL_MAX + 1 :]}"


def dot(picture: Picture) -> str:
    """Return the picture in the language of Graphviz."""
    ids = {node.value: f"v{i}" for i, node in enumerate(picture.nodes)}
    lines = [
        "graph identity {",
        '  graph [rankdir=LR, labelloc=t, bgcolor=white, fontname="sans-serif",'
        f" label={_dot_text(picture.caption)}];",
        '  node [shape=box, style="rounded,filled", fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    for node in picture.nodes:
        fill = EMAIL_FILL if node.is_email else PHONE_FILL
        width = 3 if node.is_marked else 1
        lines.append(
            f"  {ids[node.value]} [label={_dot_text(node.lines)},"
            f' tooltip={_dot_text([node.title])}, fillcolor="{fill}", penwidth={width}];'
        )
    for join in picture.joins:
        style = "solid" if join.is_contact else "dashed"
        width = 3 if join.is_hop else 1
        lines.append(
            f"  {ids[join.value]} -- {ids[join.other_value]} [label={_dot_text(join.lines)},"
            f" tooltip={_dot_text([join.title])}, style={style}, penwidth={width},"
            f' color="{color_of(join)}"];'
        )
    return "\n".join((*lines, "}")) + "\n"


EMAIL_FILL, PHONE_FILL = "#e6f0fb", "#e7f6ea"
_LINE, _MERGE, _HOP = "#5b6b7f", "#7c3aed", "#b8450b"


def color_of(join: Join) -> str:
    """Return the colour of a join's line."""
    if join.is_hop:
        return _HOP
    return _MERGE if join.is_merge else _LINE


def _dot_text(lines: Iterable[str]) -> str:
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
