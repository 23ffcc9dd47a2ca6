"""Pictures of explanations, as DOT and as SVG."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pygraphviz
import pytest
from evidence import contact, pair

from identity_cli.graph.chains import first_links, links_of, shortest_chain
from identity_cli.graph.core import Found
from identity_cli.graph.evidence import IdentityEvidence, Sources
from identity_cli.graph.explanation import ChainExplanation, IdentityExplanation
from identity_cli.graph.references import Reference
from identity_cli.output.picture import dot, picture_of
from identity_cli.output.svg import svg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from identity_cli.graph.evidence import Evidence
    from identity_cli.output.picture import Picture

SVG = "{http://www.w3.org/2000/svg}"
NASTY = 'a"b\\N<&>]]>\x07é界@x.org'


def evidence_of(
    contacts: Sequence[Evidence], pairs: Sequence[Evidence] = (), path: str = "a.csv"
) -> IdentityEvidence:
    sources = Sources([(1, [{"path": path, "first_line": 0}], True, None)])
    return IdentityEvidence(1, contacts, pairs, sources)


def tree(evidence: IdentityEvidence) -> IdentityExplanation:
    rows = evidence.rows()
    return IdentityExplanation(
        Found(Reference("id", 1), 1), evidence, first_links(rows, rows[0].value)
    )


def chain(evidence: IdentityEvidence, start: str, end: str) -> ChainExplanation:
    links = links_of(evidence.rows())
    hops = shortest_chain(links, [start], {end})
    assert hops is not None
    ends = (Found(Reference("email", value), 1) for value in (start, end))
    return ChainExplanation(*ends, evidence, links, tuple(hops))


SMALL = evidence_of(
    [contact(1, "a@x", "1"), contact(2, "b@x", "1", brings="b"), contact(3, "c@x")],
    [
        pair(1, "b@x", "c@x", second=4, merged=(3, 1)),
        pair(2, "a@x", "c@x", second=5, run_id=None),
    ],
)


def texts(picture: Picture) -> list[str]:
    root = ElementTree.fromstring(svg(picture))
    return ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_identity_is_drawn_with_every_value_and_row() -> None:
    picture = picture_of(tree(SMALL))
    assert [node.lines for node in picture.nodes] == [
        ("a@x", "contact 1"),
        ("1", "contact 1"),
        ("c@x", "contact 3, a.csv:3"),
        ("b@x", "contact 2"),
    ]
    assert [(j.value, j.other_value, j.lines, j.is_contact, j.is_merge) for j in picture.joins] == [
        ("a@x", "1", ("contact 1", "a.csv:1"), True, False),
        ("1", "b@x", ("contact 2", "a.csv:2"), True, False),
        ("c@x", "b@x", ("evidence 1", "a.csv:4", "merged 3 into 1"), False, True),
        ("a@x", "c@x", ("evidence 2", "identify or HTTP"), False, False),
    ]
    assert not picture.is_pruned
    assert [node.is_marked for node in picture.nodes] == [True, False, False, False]
    assert {line for node in picture.nodes for line in node.lines} <= set(texts(picture))


def test_chain_is_marked_and_drawn_in_its_direction() -> None:
    picture = picture_of(chain(SMALL, "c@x", "1"))
    hops = [join for join in picture.joins if join.is_hop]
    assert [(join.value, join.other_value) for join in hops] == [("c@x", "b@x"), ("b@x", "1")]
    marked = [node.value for node in picture.nodes if node.is_marked]
    assert marked == ["c@x", "1"]
    assert any("the chain" in line for line in picture.caption)


def test_texts_are_escaped_in_both_formats() -> None:
    picture = picture_of(
        tree(evidence_of([contact(1, NASTY, "1"), contact(2, "<b>@x", "1")], path='x"\\y<\n>.csv'))
    )
    shown = texts(picture)
    assert 'a"b\\N<&>]]>\\x07é界@x.org' in shown
    assert "<b>@x" in shown
    assert 'x"\\y<\\n>.csv:1' in shown
    graph = pygraphviz.AGraph(string=dot(picture))
    # Graphviz' own escapes are still in a label: it draws \\ as one backslash.
    labels = [node.attr["label"].replace("\\\\", "\0") for node in graph.nodes()]
    assert labels[0].split("\\n")[0].replace("\0", "\\") == 'a"b\\N<&>]]>\\x07é界@x.org'
    graph.close()


def test_svg_has_a_light_background_and_room_for_every_text() -> None:
    wide = [contact(i, f"{'界' * i}wide{i}@x.org", "1") for i in range(1, 30)]
    root = ElementTree.fromstring(svg(picture_of(tree(evidence_of(wide)))))
    assert root.get("role") == "img"
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    background = root.find(f"{SVG}rect")
    assert background is not None
    assert background.get("fill") == "#ffffff"
    groups = [group for group in root.iter(f"{SVG}g") if group.get("class") in {"value", "join"}]
    boxes = []
    for group in groups:
        [box] = group.iter(f"{SVG}rect")
        left, top, box_width, box_height = (
            float(str(box.get(name))) for name in ("x", "y", "width", "height")
        )
        assert left >= 0
        assert left + box_width <= width
        assert top + box_height <= height
        for text in group.iter(f"{SVG}text"):
            columns = sum(2 if character == "界" else 1 for character in str(text.text))
            size = float(str(text.get("font-size")))
            assert columns * size * 0.6 <= box_width
            assert top < float(str(text.get("y"))) < top + box_height
        boxes.append((left, top, box_width, box_height))
    assert len(boxes) >= 20
    for i, (left, top, box_width, box_height) in enumerate(boxes):
        for other_left, other_top, other_width, other_height in boxes[:i]:
            apart = (
                left + box_width <= other_left + 0.2
                or other_left + other_width <= left + 0.2
                or top + box_height <= other_top + 0.2
                or other_top + other_height <= top + 0.2
            )
            assert apart


def test_svg_is_the_same_every_time() -> None:
    assert svg(picture_of(tree(SMALL))) == svg(picture_of(tree(SMALL)))


def test_long_value_is_shortened_and_whole_in_the_title() -> None:
    value = "l" * 100 + "@x.org"
    picture = picture_of(tree(evidence_of([contact(1, value, "1")], path="p/" * 40 + "a.csv")))
    assert len(picture.nodes[0].lines[0]) == 44
    assert picture.nodes[0].lines[0].startswith("lll")
    assert picture.nodes[0].lines[0].endswith("@x.org")
    assert value in picture.nodes[0].title
    place = picture.joins[0].lines[1]
    assert len(place) == 44
    assert place.endswith("p/a.csv:1")
    assert "p/" * 40 + "a.csv:1" in picture.joins[0].title


def test_large_identity_is_pruned_around_the_primary() -> None:
    picture = picture_of(tree(evidence_of([contact(i, f"p{i}@x", "hub") for i in range(1, 5000)])))
    assert picture.is_pruned
    assert len(picture.nodes) < 60
    assert "pruned to 14 values and 13 rows nearest to the primary" in picture.caption
    assert "and 4,986 more values" in picture.nodes[1].lines


def test_dense_identity_is_pruned_to_a_number_of_rows() -> None:
    values = [f"p{i}@x" for i in range(30)]
    pairs = [
        pair(30 * i + j, *sorted((values[i], values[j])), second=30 * i + j)
        for i in range(30)
        for j in range(i)
    ]
    contacts = [contact(i + 1, value) for i, value in enumerate(values)]
    picture = picture_of(tree(evidence_of(contacts, pairs)))
    assert picture.is_pruned
    assert len(picture.joins) == 90
    # Nothing that is drawn hangs in the air.
    joined = {value for join in picture.joins for value in join[:2]}
    assert joined == {node.value for node in picture.nodes}


def test_long_chain_is_drawn_at_both_ends() -> None:
    rows = []
    for i in range(1000):
        rows.append(contact(2 * i + 1, f"p{i}@x", f"55{i}"))
        rows.append(contact(2 * i + 2, f"p{i + 1}@x", f"55{i}"))
    picture = picture_of(chain(evidence_of(rows), "p0@x", "p1000@x"))
    assert picture.is_pruned
    [gap] = [join for join in picture.joins if "more hops" in join.lines[0]]
    assert gap.lines == ("1,970 more hops",)
    assert sum(join.is_hop for join in picture.joins) == 31
    assert "1,970 more hops" in texts(picture)
    assert {node.value for node in picture.nodes if node.is_marked} == {"p0@x", "p1000@x"}


@pytest.mark.parametrize("explained", [tree(SMALL), chain(SMALL, "a@x", "c@x")])
def test_dot_is_what_graphviz_reads(explained: ChainExplanation | IdentityExplanation) -> None:
    picture = picture_of(explained)
    graph = pygraphviz.AGraph(string=dot(picture))
    assert len(graph.nodes()) == len(picture.nodes)
    assert len(graph.edges()) == len(picture.joins)
    colors = {edge.attr["color"] for edge in graph.edges()}
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors)
    graph.close()
