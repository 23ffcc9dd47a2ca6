"""Address books in vCard to rows; the cards are those of RFC 6350, RFC 2426 and vCard 2.1."""

from __future__ import annotations

import base64
import tracemalloc
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import read_until_error

from identity_cli.importer.formats.vcard import VcardReader

if TYPE_CHECKING:
    from identity_cli.errors import InputUnreadableError
    from identity_cli.importer.formats import Row

REAL = Path(__file__).parents[1] / "files" / "real"


def read(
    path: Path, *mapping: str, encoding: str = "utf-8", **options: Any
) -> tuple[list[Row], InputUnreadableError | None, VcardReader]:
    reader = partial(VcardReader, encoding=encoding)
    return read_until_error(reader, path, *mapping, **options)


def read_text(
    folder: Path, text: str | bytes, *mapping: str, **options: Any
) -> tuple[list[Row], InputUnreadableError | None, VcardReader]:
    path = folder / "input.vcf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path, *mapping, **options)


def card(*lines: str, end: str = "\r\n") -> str:
    return end.join(["BEGIN:VCARD", "VERSION:3.0", *lines, "END:VCARD", ""])


# From RFC 6350, section 8 (and 6.4), RFC 2426, section 7, and vCard 2.1, sections 2 and 3.
RFC_6350 = """BEGIN:VCARD
VERSION:4.0
FN:Simon Perreault
N:Perreault;Simon;;;ing. jr,M.Sc.
BDAY:--0203
ANNIVERSARY:20090808T1430-0500
GENDER:M
LANG;PREF=1:fr
LANG;PREF=2:en
ORG;TYPE=work:Viagenie
ADR;TYPE=work:;Suite D2-630;2875 Laurier;
 Quebec;QC;G1V 2M2;Canada
TEL;VALUE=uri;TYPE="work,voice";PREF=1:tel:+1-418-656-9254;ext=102
TEL;VALUE=uri;TYPE="work,cell,voice,video,text":tel:+1-418-262-6501
EMAIL;TYPE=work:simon.perreault@viagenie.ca
GEO;TYPE=work:geo:46.772673,-71.282945
KEY;TYPE=work;VALUE=uri:
 http://www.viagenie.ca/simon.perreault/simon.asc
TZ:-0500
URL;TYPE=home:http://nomis80.org
END:VCARD
"""
RFC_2426 = """BEGIN:vCard
VERSION:3.0
FN:Frank Dawson
ORG:Lotus Development Corporation
ADR;TYPE=WORK,POSTAL,PARCEL:;;6544 Battleford Drive
 ;Raleigh;NC;27613-3502;U.S.A.
TEL;TYPE=VOICE,MSG,WORK:+1-919-676-9515
TEL;TYPE=FAX,WORK:+1-919-676-9564
EMAIL;TYPE=INTERNET,PREF:Frank_Dawson@Lotus.com
EMAIL;TYPE=INTERNET:fdawson@earthlink.net
URL:http://home.earthlink.net/~fdawson
END:vCard


BEGIN:vCard
VERSION:3.0
FN:Tim Howes
ORG:Netscape Communications Corp.
ADR;TYPE=WORK:;;501 E. Middlefield Rd.;Mountain View;
 CA; 94043;U.S.A.
TEL;TYPE=VOICE,MSG,WORK:+1-415-937-3419
TEL;TYPE=FAX,WORK:+1-415-528-4164
EMAIL;TYPE=INTERNET:howes@netscape.com
END:vCard
"""
VCARD_21 = """BEGIN:VCARD
VERSION:2.1
N:Smith;John;M.;Mr.;Esq.
TEL;WORK;VOICE;MSG:+1 (919) 555-1234
TEL;CELL:+1 (919) 554-6758
TEL;WORK;FAX:+1 (919) 555-9876
PHOTO;ENCODING=BASE64;TYPE=GIF:
    R0lGODdhfgA4AOYAAAAAAK+vr62trVIxa6WlpZ+fnzEpCEpzlAha/0Kc74+PjyGM
    SuecKRhrtX9/fzExORBSjCEYCGtra2NjYyF7nDGE50JrhAg51qWtOTl7vee1MWu1

ADR;WORK;PARCEL;POSTAL;DOM:Suite 101;1 Central St.;Any Town;NC;27654
LABEL;ENCODING=QUOTED-PRINTABLE:123 Winding Way=0D=0A=
 Any Town, CA 12345=0D=0A=
USA
EMAIL;INTERNET;CHARSET=ISO-8859-1;ENCODING=QUOTED-PRINTABLE:j=FCrgen=
@smith.example
AGENT:
BEGIN:VCARD
VERSION:2.1
N:Friday;Fred
TEL;WORK;VOICE:+1-213-555-1234
EMAIL;INTERNET:fred@host.com
END:VCARD
END:VCARD
"""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            RFC_6350,
            [(1, ["simon.perreault@viagenie.ca"], ["+1-418-656-9254;ext=102", "+1-418-262-6501"])],
        ),
        (
            RFC_2426,
            [
                (1, ["Frank_Dawson@Lotus.com", "fdawson@earthlink.net"], ["+1-919-676-9515"]),
                (15, ["howes@netscape.com"], ["+1-415-937-3419"]),
            ],
        ),
        (VCARD_21, [(1, ["jürgen@smith.example"], ["+1 (919) 555-1234", "+1 (919) 554-6758"])]),
    ],
    ids=["4.0", "3.0", "2.1"],
)
def test_the_cards_of_the_standards(
    tmp_path: Path, text: str, rows: list[tuple[int, list[str], list[str]]], end: str
) -> None:
    found, error, _ = read_text(tmp_path, text.replace("\n", end))
    assert error is None
    assert [(row.line, row.emails, row.phones) for row in found] == rows


@pytest.mark.parametrize(
    ("lines", "emails", "phones"),
    [
        (["item1.EMAIL;type=INTERNET;type=pref:a@x.org"], ["a@x.org"], []),
        (["email:a@x.org", "Tel:1"], ["a@x.org"], ["1"]),
        (["EMAIL:mailto:a%40x.org?subject=Hi"], ["a@x.org"], []),
        (["TEL;VALUE=uri:tel:+1-555-555-5555;phone-context=+44;ext=102"],
         [], ["+1-555-555-5555;ext=102"]),
        (['TEL;X-NAME="a:b;c":1'], [], ["1"]),
        (["TEL:1\\,2\\;3"], [], ["1,2;3"]),
        (["EMAIL:a@", " x.or", "\tg"], ["a@x.org"], []),
        (["EMAIL:", "TEL:"], [""], [""]),
        (["EMAIL;QUOTED-PRINTABLE:a=40x.org"], ["a@x.org"], []),
        (["EMAIL;ENCODING=QUOTED-PRINTABLE:a@x.=", "org"], ["a@x.org"], []),
        (["EMAIL;CHARSET=nonsense;ENCODING=QUOTED-PRINTABLE:a=C3=BC@x.org"], ["aü@x.org"], []),
        (["NOTE;ENCODING=QUOTED-PRINTABLE:cut=", "END:VCARD", "BEGIN:VCARD", "EMAIL:b"], [], []),
        (["NOTE:EMAIL:a@x.org", "X-EMAIL:b"], [], []),
        (["PHOTO;ENCODING=b;TYPE=JPEG:AAAA", "EMAIL:a@x.org"], ["a@x.org"], []),
        (["PHOTO;BASE64:", "EMAILAAAA", "AAAA==", "", "EMAIL:a@x.org"], ["a@x.org"], []),
        (["AGENT:BEGIN:VCARD\\nEMAIL:b\\nEND:VCARD", "EMAIL:a@x.org"], ["a@x.org"], []),
        (["no property", "EMAIL:a@x.org"], ["a@x.org"], []),
    ],
)  # fmt: skip
def test_values_of_properties(
    tmp_path: Path, lines: list[str], emails: list[str], phones: list[str]
) -> None:
    rows, error, _ = read_text(tmp_path, card(*lines))
    assert error is None
    assert (rows[0].emails, rows[0].phones, rows[0].problem) == (emails, phones, None)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["TEL;TYPE=FAX:1"], "'fax' is not a phone number"),
        (["TEL;WORK;PAGER:1"], "'pager' is not a phone number"),
        (["TEL;TYPE=x-evolution-assistant:1"], "'assistant' may refer to another"),
        (["item1.TEL:1", "item1.X-ABLabel:Assistant"], "'assistant' may refer to another"),
        (["item2.X-ABLabel:_$!<HomeFAX>!$_", "item2.TEL:1"], "'fax' is not a phone number"),
    ],
)
def test_numbers_of_machines_and_of_others_are_not_used(
    tmp_path: Path, lines: list[str], reason: str
) -> None:
    rows, _, reader = read_text(tmp_path, card(*lines, "item9.TEL;TYPE=CELL:2"))
    assert rows[0].phones == ["2"]
    assert reader.column_report.used == (("TEL", "phone"),)
    assert len(reader.column_report.unused) == 1
    assert reason in reader.column_report.unused[0][1]


def test_mapped_properties_are_used_instead(tmp_path: Path) -> None:
    text = card("EMAIL:a@x.org", "X-Mail:b@x.org", "TEL;TYPE=FAX:1", "UID:u7", "X-LAND:DE")
    rows, _, reader = read_text(
        tmp_path,
        text,
        "email=x-mail",
        "phone=tel",
        "phone=X-NONE",
        key="uid",
        region_column="X-LAND",
    )
    row = rows[0]
    assert (row.emails, row.phones, row.key, row.region) == (["b@x.org"], ["1"], "u7", "DE")
    assert reader.unseen_keys == ["X-NONE"]


def test_an_empty_file_has_no_unseen_properties(tmp_path: Path) -> None:
    rows, error, reader = read_text(tmp_path, "\ufeff\r\n\r\n", "email=X-NONE")
    assert (rows, error, reader.unseen_keys) == ([], None, [])


def test_the_text_of_a_card_is_kept_without_its_pictures(tmp_path: Path) -> None:
    text = card("N:Bell;Ann", "PHOTO;ENCODING=b:AAAA", " BBBB", "EMAIL:a@", " x.org", end="\n")
    rows, _, reader = read_text(tmp_path, "\ufeff" + text, encoding="utf-8-sig")
    expected = card("N:Bell;Ann", "EMAIL:a@x.org", end="\n")
    assert rows[0].content == expected
    assert reader.take_digest_input() == expected.encode()
    assert reader.take_digest_input() == b""
    assert reader.characters == len(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BEGIN:VCARD\nEMAIL:a\n" + card("EMAIL:b"), [(1, "bad_row"), (3, None)]),
        (
            card("EMAIL:a") + "junk\nmore\n\n" + card("EMAIL:b"),
            [(1, None), (5, "bad_row"), (8, None)],
        ),
        ("END:VCARD\n" + card("EMAIL:b"), [(1, "bad_row"), (2, None)]),
        (card("AGENT:", "BEGIN:VCARD", "EMAIL:b") + card("EMAIL:c"), [(1, "bad_row"), (7, None)]),
    ],
)
def test_what_is_not_a_whole_card_is_rejected_alone(
    tmp_path: Path, text: str, expected: list[tuple[int, str | None]]
) -> None:
    rows, error, _ = read_text(tmp_path, text)
    assert error is None
    assert [(row.line, row.problem.code if row.problem else None) for row in rows] == expected


def test_rejected_text_is_a_card_that_can_be_corrected(tmp_path: Path) -> None:
    rows, _, _ = read_text(tmp_path, "junk\n\nBEGIN:VCARD\nEMAIL:a\n" + card("EMAIL:b"))
    assert [row.content for row in rows[:2]] == [
        "BEGIN:VCARD\njunk\nEND:VCARD\n",
        "BEGIN:VCARD\nEMAIL:a\nEND:VCARD\n",
    ]


@pytest.mark.parametrize(
    "rest",
    ["BEGIN:VCARD\nEMAIL:b\n", "BEGIN:VCARD", "BEGIN:VCARD\nAGENT:\nBEGIN:VCARD\nEND:VCARD\n"],
)
def test_a_last_card_without_its_end_is_an_error_that_keeps_the_rows_before(
    tmp_path: Path, rest: str
) -> None:
    rows, error, _ = read_text(tmp_path, card("EMAIL:a") + rest)
    assert [row.emails for row in rows] == [["a"]]
    assert error is not None
    assert error.location.endswith("input.vcf:5")
    assert "no END:VCARD" in str(error)


def test_bytes_that_are_not_text_matter_only_in_values_that_are_used(tmp_path: Path) -> None:
    text = b"BEGIN:VCARD\nNOTE:\xff\nEMAIL:a@x.org\nEND:VCARD\nBEGIN:VCARD\nTEL:\xff1\nEND:VCARD\n"
    rows, _, _ = read_text(tmp_path, text)
    assert [(row.emails, row.phones) for row in rows] == [(["a@x.org"], []), ([], ["\udcff1"])]


def test_a_charset_of_a_value_is_obeyed(tmp_path: Path) -> None:
    rows, _, _ = read_text(
        tmp_path, card("EMAIL;CHARSET=ISO-8859-1:jürgen@x.org").encode("latin-1")
    )
    assert rows[0].emails == ["jürgen@x.org"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_files_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    data = card("EMAIL:jürgen@x.org", "TEL;CHARSET=UTF-8:1").encode(encoding)
    rows, _, _ = read_text(tmp_path, data, encoding=encoding)
    assert (rows[0].emails, rows[0].phones) == (["jürgen@x.org"], ["1"])


@pytest.mark.parametrize("is_folded", [True, False])
def test_pictures_of_megabytes_take_no_memory(tmp_path: Path, is_folded: bool) -> None:
    picture = base64.b64encode(bytes(12_000_000)).decode()
    lines = [picture[at : at + 74] for at in range(0, len(picture), 74)] if is_folded else [picture]
    text = card("PHOTO;ENCODING=b:" + "\r\n ".join(lines), "EMAIL:a@x.org") * 2
    path = tmp_path / "input.vcf"
    path.write_text(text, newline="")
    del picture, text, lines
    tracemalloc.start()
    try:
        rows, error, _ = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error is None
    assert [row.emails for row in rows] == [["a@x.org"], ["a@x.org"]]
    assert peak < 2_000_000


@given(st.lists(st.sampled_from(["BEGIN:VCARD", "END:VCARD", "AGENT:", "EMAIL:a", " b", "TEL;FAX:1",
                                 "NOTE;QUOTED-PRINTABLE:=", "=", "", "junk", "item1.X-ABLabel:c"]),
                max_size=20))  # fmt: skip
def test_any_lines_are_read_to_an_end(tmp_path_factory: Any, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("vcard") / "input.vcf"
    path.write_text("\n".join(lines))
    rows, _, reader = read(path)
    assert [row.line for row in rows] == sorted(row.line for row in rows)
    assert reader.line <= len(lines)
    assert sum(row.problem is None for row in rows) <= lines.count("END:VCARD")


def test_a_real_export() -> None:
    rows, error, _ = read(REAL / "04-apple.vcf")
    assert error is None
    assert [(row.line, row.emails, row.phones) for row in rows] == [
        (1, ["inga@dahl.example", "inga@firm.example"], ["+1 (202) 555-0110", "202-555-0111"]),
        (10, ["inga@firm.example"], ["+1-202-555-0112"]),
    ]
