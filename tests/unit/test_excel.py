"""Sheets of workbooks to rows."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import pytest
from reading import read_all

from identity_cli.errors import InputUnreadableError, InvalidRequestError, UsageError
from identity_cli.graph.normalize import normalize_phone
from identity_cli.importer.formats.excel import ExcelReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from identity_cli.importer.formats import Row

REAL = Path(__file__).parents[1] / "files" / "real"

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
DAY, MOMENT = 1, 2  # styles


def cell(value: object, place: str = "") -> str:
    """Return the XML of a cell; text in angle brackets is XML already."""
    at = f' r="{place}"' if place else ""
    if value is None:
        return f'<c{at} s="0"/>'
    if isinstance(value, str):
        if value.startswith("<"):
            return value
        return f'<c{at} t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
    if isinstance(value, bool):
        return f'<c{at} t="b"><v>{int(value)}</v></c>'
    return f"<c{at}><v>{value!r}</v></c>"


def sheet(*rows: tuple[object, ...]) -> str:
    """Return the XML of a sheet with these rows from its first row on."""
    lines = [
        f'<row r="{number}">'
        + "".join(cell(value, f"{chr(65 + at)}{number}") for at, value in enumerate(row))
        + "</row>"
        for number, row in enumerate(rows, 1)
    ]
    return f'<worksheet xmlns="{MAIN}"><sheetData>{"".join(lines)}</sheetData></worksheet>'


def workbook(sheets: Mapping[str, str], hidden: tuple[str, ...] = ()) -> bytes:
    """Return an .xlsx file of these sheets."""
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" r:id="rId{number}"'
        f"{' state=' + chr(34) + 'hidden' + chr(34) if name in hidden else ''}/>"
        for number, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="rId{number}" Type="{RELATIONS}/worksheet"'
        f' Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    styles = "".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 22))
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1"'
        f' Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}/relationships">'
        f"{targets}</Relationships>",
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><cellXfs>{styles}</cellXfs></styleSheet>',
    }
    parts |= {
        f"xl/worksheets/sheet{number}.xml": text for number, text in enumerate(sheets.values(), 1)
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return file.getvalue()


def spreadsheet_ods(rows: str) -> bytes:
    """Return an .ods file with one sheet of these rows."""
    namespaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"'
            "/>",
        )
        archive.writestr(
            "content.xml",
            f"<office:document-content {namespaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="S">{rows}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return file.getvalue()


def read(path: Path, *mapping: str, **options: Any) -> tuple[list[Row], ExcelReader]:
    return read_all(ExcelReader, path, *mapping, **options)


def read_bytes(
    folder: Path, data: bytes, *mapping: str, **options: Any
) -> tuple[list[Row], ExcelReader]:
    path = folder / "input.xlsx"
    path.write_bytes(data)
    return read(path, *mapping, **options)


def values(rows: list[Row]) -> list[tuple[int, list[object], list[object]]]:
    return [(row.line, list(row.emails), list(row.phones)) for row in rows]


def test_the_rows_of_a_sheet_have_its_row_numbers(tmp_path: Path) -> None:
    data = workbook(
        {"S": sheet(("id", "Email", "Phone"), (1, "a@x.org", 5551234), (), (2, None, "+1 555"))}
    )
    rows, reader = read_bytes(tmp_path, data)
    assert values(rows) == [(2, ["a@x.org"], ["5551234"]), (4, [""], ["+1 555"])]
    assert rows[0].content == ["1", "a@x.org", "5551234"]
    assert reader.layout.columns == ["id", "Email", "Phone"]
    assert (reader.notes, reader.unseen_keys) == ((), [])
    assert reader.column_report.used == (("Email", "email"), ("Phone", "phone"))
    assert reader.take_digest_input().splitlines() == [
        b"id\tEmail\tPhone",
        b"1\ta@x.org\t5551234",
        b"2\t\t+1 555",
    ]
    assert reader.take_digest_input() == b""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5551234.0, "5551234"),
        (12025550400, "12025550400"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (True, "TRUE"),
        (False, "FALSE"),
        ("  a b  ", "  a b  "),
        ("007", "007"),
        ('<c r="B2" t="e"><v>#N/A</v></c>', ""),
        ('<c r="B2"><f>1+1</f><v>2</v></c>', "2"),
        ('<c r="B2" t="str"><f>A1</f><v>a@x.org</v></c>', "a@x.org"),
        (f'<c r="B2" s="{DAY}"><v>45658</v></c>', "2025-01-01 00:00:00"),
        (f'<c r="B2" s="{MOMENT}"><v>45658.5</v></c>', "2025-01-01 12:00:00"),
    ],
)
def test_a_cell_is_read_as_the_text_that_it_shows(tmp_path: Path, value: object, text: str) -> None:
    rows, _ = read_bytes(tmp_path, workbook({"S": sheet(("email", "tel"), ("x", value))}))
    assert rows[0].phones == [text]


def test_a_date_is_not_a_phone_number(tmp_path: Path) -> None:
    data = workbook({"S": sheet(("tel",), (f'<c r="A2" s="{DAY}"><v>45658</v></c>',))})
    rows, _ = read_bytes(tmp_path, data)
    for region in (None, "US", "DE"):
        with pytest.raises(InvalidRequestError) as caught:
            normalize_phone(rows[0].phones[0], region)
        assert caught.value.code == "bad_phone"


TITLE = ("Customers of 2025", None, None)
HEADER = ("Name", "Email", "Phone")
ROW = ("Ada", "a@x.org", "1")


@pytest.mark.parametrize(
    ("rows", "options", "expected", "note"),
    [
        ([HEADER, ROW], {}, [2], False),
        ([TITLE, (), HEADER, ROW], {}, [4], True),
        ([TITLE, (), HEADER, ROW], {"skip_lines": 2}, [4], False),
        ([("Email", None, None), HEADER, ROW], {}, [2, 3], False),
        ([HEADER, ("Email", "b@x.org", "2"), ROW], {}, [2, 3], False),
        ([*[("x",)] * 19, HEADER, ROW], {}, [21], True),
        ([(None,), HEADER, ROW], {}, [3], False),
    ],
)
def test_the_header_is_found_below_titles(
    tmp_path: Path, rows: list[Any], options: Any, expected: list[int], note: bool
) -> None:
    found, reader = read_bytes(tmp_path, workbook({"S": sheet(*rows)}), **options)
    assert [row.line for row in found] == expected
    assert any("the header is row" in text for text in reader.notes) is note


def test_a_header_beyond_the_first_rows_is_not_looked_for(tmp_path: Path) -> None:
    data = workbook({"S": sheet(*[("x",)] * 20, HEADER, ROW)})
    with pytest.raises(InputUnreadableError, match="no column is an email") as caught:
        read_bytes(tmp_path, data)
    assert caught.value.location.endswith("input.xlsx:1")


def test_columns_have_numbers_without_a_header(tmp_path: Path) -> None:
    data = workbook({"S": sheet(("a@x.org", 1), ("b@x.org", 2))})
    rows, reader = read_bytes(tmp_path, data, "email=1", "phone=2", header=False)
    assert values(rows) == [(1, ["a@x.org"], ["1"]), (2, ["b@x.org"], ["2"])]
    assert reader.layout.columns == ["1", "2"]
    with pytest.raises(UsageError, match="without a header"):
        read_bytes(tmp_path, data, header=False)


def test_mapped_columns_region_and_key_are_used(tmp_path: Path) -> None:
    data = workbook({"S": sheet(("Title",), ("no", "who", "land"), (7, "a@x.org", "DE"))})
    rows, _ = read_bytes(tmp_path, data, "email=who", region_column="land", key="no")
    assert [(row.line, row.emails, row.region, row.key) for row in rows] == [
        (3, ["a@x.org"], "DE", "7")
    ]
    with pytest.raises(UsageError, match="no column 'mail'"):
        read_bytes(tmp_path, data, "email=mail")


SHEETS = {
    "Secret": sheet(("email",), ("hidden@x.org",)),
    "Empty": sheet(),
    "2": sheet(("email",), ("second@x.org",)),
    "People": sheet(("email",), ("people@x.org",)),
}


@pytest.mark.parametrize(
    ("wanted", "email"),
    [
        (None, "second@x.org"),
        ("People", "people@x.org"),
        ("people", "people@x.org"),
        ("4", "people@x.org"),
        ("1", "hidden@x.org"),
        ("2", "second@x.org"),
    ],
)
def test_a_sheet_is_chosen_by_name_or_number(
    tmp_path: Path, wanted: str | None, email: str
) -> None:
    rows, reader = read_bytes(tmp_path, workbook(SHEETS, ("Secret",)), sheet=wanted)
    assert [row.emails for row in rows] == [[email]]
    assert [("'2'" in note, "--sheet" in note) for note in reader.notes] == (
        [(True, True)] if wanted is None else []
    )


@pytest.mark.parametrize("wanted", ["0", "5", "Nobody", ""])
def test_a_sheet_that_does_not_exist_is_wrong_usage(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(UsageError, match="there is no such sheet") as caught:
        read_bytes(tmp_path, workbook(SHEETS), sheet=wanted)
    assert "'Secret', 'Empty', '2', 'People'" in (caught.value.hint or "")


def test_merged_cells_have_their_value_once(tmp_path: Path) -> None:
    text = sheet(HEADER, ("Ada", "a@x.org", 1), ("Ada", None, 2)).replace(
        "</sheetData>", '</sheetData><mergeCells><mergeCell ref="B2:B3"/></mergeCells>'
    )
    rows, _ = read_bytes(tmp_path, workbook({"S": text}))
    assert values(rows) == [(2, ["a@x.org"], ["1"]), (3, [""], ["2"])]


def test_cells_beside_the_table_are_other_columns(tmp_path: Path) -> None:
    rows, reader = read_bytes(
        tmp_path, workbook({"S": sheet(("email",), ("a@x.org", None, "call back"))})
    )
    assert rows[0].problem is None
    assert rows[0].content == ["a@x.org", "", "call back"]
    assert reader.layout.columns == ["email", "", ""]


def test_an_open_document_is_read(tmp_path: Path) -> None:
    def row(*cells: str) -> str:
        texts = "".join(
            '<table:table-cell office:value-type="string"><text:p>'
            f"{text}</text:p></table:table-cell>"
            for text in cells
        )
        return f"<table:table-row>{texts}</table:table-row>"

    empty = (
        '<table:table-row table:number-rows-repeated="1048570"><table:table-cell'
        ' table:number-columns-repeated="16384"/></table:table-row>'
    )
    data = spreadsheet_ods(row("email", "tel") + row("a@x.org", "1") + empty)
    rows, _ = read_bytes(tmp_path, data)
    assert values(rows) == [(2, ["a@x.org"], ["1"])]


def far(place: str) -> str:
    return sheet(("email",), (f"<c r={chr(34)}{place}{chr(34)}><v>1</v></c>",))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "cannot be read"),
        (b"PK\x03\x04" + b"x" * 100, "broken or cut off"),
        (workbook({"S": sheet(HEADER, ROW)})[:-300], "broken or cut off"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "cannot be read"),
        (workbook({"S": "<worksheet><sheetData><row><c>"}), "cannot be read|sheet is empty"),
        (workbook({"S": sheet()}), "the sheet is empty"),
        (workbook({"S": sheet(HEADER)}, ("S",)), "no visible sheet"),
        (workbook({"S": far("XFD1048576")}), "too large"),
        (workbook({"S": sheet(HEADER), "T": far("AAA200000")}), "too large"),
    ],
    ids=["empty", "junk", "cut", "ole", "xml", "no rows", "hidden", "corner", "other sheet"],
)
def test_a_file_that_cannot_be_read_is_a_clear_error(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    with pytest.raises(InputUnreadableError, match=problem) as caught:
        read_bytes(tmp_path, data)
    assert caught.value.hint


def test_a_million_empty_cells_take_little_time(tmp_path: Path) -> None:
    lines = [
        f'<row r="{number}">'
        + "".join(f'<c r="A{chr(65 + at)}{number}" s="1"/>' for at in range(20))
        + "</row>"
        for number in range(3, 50_003)
    ]
    text = sheet(("email",), ("a@x.org",)).replace("</sheetData>", "".join(lines) + "</sheetData>")
    last = text.replace(
        "</sheetData>", f'<row r="1048576">{cell("b@x.org", "A1048576")}</row></sheetData>'
    )
    data = workbook({"S": last})
    begun = time.monotonic()
    rows, _ = read_bytes(tmp_path, data)
    assert values(rows) == [(2, ["a@x.org"], []), (1048576, ["b@x.org"], [])]
    assert time.monotonic() - begun < 20


def test_a_real_export(tmp_path: Path) -> None:
    rows, reader = read(REAL / "34-odoo.xlsx")
    assert values(rows) == [
        (2, ['"Mia Nash" <mia@nash.example>'], ["+1 202-555-0350", ""]),
        (3, ["nils@oak.example"], ["2025550351", "+1 202-555-0352"]),
        (4, ["mia.n@new.example"], ["(202) 555-0350", ""]),
    ]
    assert reader.notes == ()
