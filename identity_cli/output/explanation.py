"""Print an explanation: a tree or a list of hops on a terminal, plain lines into a pipe."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any, Literal, assert_never

from identity_cli.output.provenance import one_line, place_of, size_of, time_of
from identity_cli.output.streams import AMBIGUOUS, remark

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.text import Text
    from rich.tree import Tree

    from identity_cli.graph.chains import Branch
    from identity_cli.graph.evidence import Evidence, Sources
    from identity_cli.graph.explanation import ChainExplanation, IdentityExplanation

PictureFormat = Literal["dot", "svg"]

# What a person reads on a terminal; a pipe gets all of it.
_BRANCHES_DRAWN = 500
_DEPTH_DRAWN = 25

_HOP_HEADER = ("value", "other value", "row", "run", "source", "time")
_NO_ROW = ("-", "-", "-", "-")
_TREE_HEADER = (
    "depth",
    "value",
    "brought by",
    "run",
    "source",
    "time",
    "linked with",
    "linked by",
    "link run",
    "link source",
    "link time",
    "merged",
)


def explanation(
    explained: ChainExplanation | IdentityExplanation,
    *,
    as_json: bool = False,
    picture_format: PictureFormat | None = None,
) -> None:
    """Print an explanation as JSON, as a picture, or as text."""
    from identity_cli.graph.explanation import ChainExplanation

    if as_json:
        _write_json(explained.as_json())
    elif picture_format is not None:
        _write_picture(explained, picture_format)
    elif isinstance(explained, ChainExplanation):
        _print_chain(explained)
    else:
        _print_identity(explained)
    if explained.is_ambiguous:
        remark(AMBIGUOUS)


def check_svg() -> None:
    """Raise `UsageError` if the library for the layout is not installed."""
    from identity_cli.output.svg import check_svg

    check_svg()


def _write_json(document: dict[str, Any]) -> None:
    # A tenth of the time of Python's own, which counts for a hundred thousand values.
    from msgspec import json

    sys.stdout.write(f"{json.encode(document).decode()}\n")
    sys.stdout.flush()


def _write_picture(
    explained: ChainExplanation | IdentityExplanation, picture_format: PictureFormat
) -> None:
    from identity_cli.output.picture import dot, picture_of

    picture = picture_of(explained)
    if picture_format == "dot":
        text = dot(picture)
    elif picture_format == "svg":
        from identity_cli.output.svg import svg

        text = svg(picture)
    else:
        assert_never(picture_format)
    sys.stdout.write(text)
    sys.stdout.flush()
    if picture.is_pruned:
        remark("the picture shows a part of the identity; without --format all of it is printed")


def _print_chain(explained: ChainExplanation) -> None:
    sources = explained.evidence.sources
    if not explained.hops:
        remark("both are the same value or contact")
    if sys.stdout.isatty():
        _draw_chain(explained, sources)
    else:
        _write_lines(
            _HOP_HEADER,
            ((hop.value, hop.other_value, *_cells(hop.row, sources)) for hop in explained.hops),
        )


def _print_identity(explained: IdentityExplanation) -> None:
    sources = explained.evidence.sources
    if sys.stdout.isatty():
        _draw_tree(explained, sources)
    else:
        _write_lines(_TREE_HEADER, (_branch_cells(b, sources) for b in explained.tree))


def _cells(row: Evidence, sources: Sources) -> tuple[str, ...]:
    run = "-" if row.run_id is None else str(row.run_id)
    return row.name, run, place_of(row, sources), time_of(row)


def _branch_cells(branch: Branch, sources: Sources) -> tuple[str, ...]:
    link, origin = branch.link, branch.origin
    origin_cells = _NO_ROW if origin is None else _cells(origin, sources)
    if link is None or branch.parent is None:
        return str(branch.depth), branch.value, *origin_cells, "-", *_NO_ROW, "-"
    link_cells = origin_cells if link is origin else _cells(link, sources)
    merged = "-" if link.merged_id is None else f"contact {link.merged_id}"
    return str(branch.depth), branch.value, *origin_cells, branch.parent, *link_cells, merged


def _write_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # Not flushed for each line: an identity may have a hundred thousand.
    sys.stdout.writelines(_tabbed(row) for row in (header, *rows))
    sys.stdout.flush()


def _tabbed(cells: Sequence[str]) -> str:
    line = "\t".join(cells)
    # Two tests of the whole line cost less than one of each cell.
    if line.count("\t") == len(cells) - 1 and line.replace("\t", "").isprintable():
        return f"{line}\n"
    return "\t".join(map(one_line, cells)) + "\n"


def _draw_chain(explained: ChainExplanation, sources: Sources) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    values = explained.values
    console.print(Text(one_line(values[0]), style="bold"))
    for hop in explained.hops:
        console.print(Text.assemble("│ ", _details(hop.row, sources)))
        console.print(Text(one_line(hop.other_value), style="bold"))


def _draw_tree(explained: IdentityExplanation, sources: Sources) -> None:
    from rich.console import Console
    from rich.tree import Tree

    evidence = explained.evidence
    tree = Tree(size_of(evidence, len(explained.tree)))
    drawn = list(_drawable(explained.tree))
    parents: list[Tree] = [tree]
    for branch in drawn:
        del parents[branch.depth + 1 :]
        parents.append(parents[-1].add(_branch_text(branch, sources)))
    Console(highlight=False).print(tree)
    if len(drawn) < len(explained.tree):
        remark(
            f"{len(drawn):,} of {len(explained.tree):,} values are shown;"
            " write to a pipe or use --json for all"
        )


def _drawable(tree: Sequence[Branch]) -> Iterator[Branch]:
    """Yield the branches that a terminal can show; rather fewer levels than a part of one."""
    at_depth = Counter(branch.depth for branch in tree)
    totals = accumulate(at_depth[depth] for depth in range(_DEPTH_DRAWN))
    levels = max(2, sum(total <= _BRANCHES_DRAWN for total in totals))
    yield from islice((b for b in tree if b.depth < levels), _BRANCHES_DRAWN)


def _branch_text(branch: Branch, sources: Sources) -> Text:
    from rich.text import Text

    text = Text(one_line(branch.value), style="bold")
    row = branch.link or branch.origin
    if row is not None:
        text.append("\n")
        text.append_text(_details(row, sources))
    if branch.link is not None and branch.origin is not None and branch.link != branch.origin:
        text.append("\nbrought by ", style="not bold")
        text.append_text(_details(branch.origin, sources))
    return text


def _details(row: Evidence, sources: Sources) -> Text:
    from rich.text import Text

    parts = [row.name, place_of(row, sources), time_of(row)]
    if row.run_id is not None:
        parts.insert(1, f"run {row.run_id}")
    if row.merged_id is not None:
        parts.append(f"merged contact {row.merged_id} into {row.primary_id}")
    return Text(one_line(", ".join(parts)), style="not bold dim")
