"""`identity annotate` as a subprocess: files, standard streams, exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from identity_cli.postgres import roles

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "email,phone\na@x.org,1\nb@x.org,\nbad,\n"


@pytest.fixture
def contacts(run_identity: Any, tmp_path: Path) -> str:
    """The name of a file with a known row, an unknown one and a bad one."""
    (tmp_path / "contacts.csv").write_text(TEXT)
    run_identity("identify", "--email", "a@x.org")
    return "contacts.csv"


def test_rows_go_to_standard_output_and_the_counts_to_standard_error(
    run_identity: Any, contacts: str
) -> None:
    done = run_identity("annotate", contacts)
    assert done.returncode == 0
    assert done.stdout == (
        "email,phone,primary_contact_id,identity_status\n"
        "a@x.org,1,1,known\nb@x.org,,,unknown\nbad,,,rejected\n"
    )
    assert done.stderr.startswith("read 3  known 1  split 0  unknown 1  blocked 0  rejected 1\n")


def test_quiet_prints_nothing_but_the_rows(run_identity: Any, contacts: str) -> None:
    assert run_identity("annotate", contacts, "-q").stderr == ""


def test_note_names_its_file_once(run_identity: Any, contacts: str, tmp_path: Path) -> None:
    (tmp_path / "report.csv").write_text("Report\nof\n\nName,Email\nAnn,a@x.org\n")
    done = run_identity("annotate", "report.csv")
    assert "note: report.csv: skipped 3 lines before the header\n" in done.stderr


def test_standard_input_is_read(run_identity: Any, contacts: str) -> None:
    done = run_identity("annotate", "-", "--input-format", "csv", input=TEXT)
    assert done.stdout == run_identity("annotate", contacts).stdout


def test_output_file_is_written_with_a_summary(
    run_identity: Any, contacts: str, tmp_path: Path
) -> None:
    done = run_identity("annotate", contacts, "-o", "out.csv", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert document["rows"] == {
        "read": 3,
        "known": 1,
        "split": 0,
        "unknown": 1,
        "blocked": 0,
        "rejected": 1,
    }
    assert document["rejected_by_code"] == {"bad_email": 1}
    assert (tmp_path / "out.csv").read_text() == run_identity("annotate", contacts).stdout


def test_existing_file_is_replaced_only_with_force(
    run_identity: Any, contacts: str, tmp_path: Path
) -> None:
    (tmp_path / "out.csv").write_text("old")
    assert run_identity("annotate", contacts, "-o", "out.csv").returncode == 2
    assert (tmp_path / "out.csv").read_text() == "old"
    assert run_identity("annotate", contacts, "-o", "out.csv", "--force").returncode == 0
    assert (tmp_path / "out.csv").read_text() != "old"


def test_unreadable_input_leaves_no_output_file(run_identity: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text('email\na@x.org\n"b\n')
    done = run_identity("annotate", "broken.csv", "-o", "out.csv")
    assert done.returncode == 4
    assert "broken.csv:3: error: " in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("column", ["email", "note"])
def test_damaged_page_of_any_column_is_an_error_of_the_input(
    run_identity: Any, tmp_path: Path, column: str
) -> None:
    """A column that is not used is copied all the same."""
    path = tmp_path / "contacts.parquet"
    emails = [f"a{number}@x.org" for number in range(5_000)]
    table = pa.table({"email": emails, "note": emails[::-1]})
    pq.write_table(table, path, use_dictionary=False, write_page_checksum=True)
    data = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(0).column(table.column_names.index(column))
    data[place.data_page_offset + 100 : place.data_page_offset + 400] = bytes(300)
    path.write_bytes(data)
    (tmp_path / "out.parquet").write_bytes(b"as it was")
    done = run_identity("annotate", "-q", "contacts.parquet", "-o", "out.parquet", "--force")
    assert done.returncode == 4
    assert done.stderr.startswith("contacts.parquet")
    assert "the Parquet file cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out.parquet").read_bytes() == b"as it was"


@pytest.mark.parametrize("option", ["--json", "--force"])
def test_option_of_an_output_file_is_refused_without_one(
    run_identity: Any, contacts: str, option: str
) -> None:
    done = run_identity("annotate", contacts, option)
    assert done.returncode == 2
    assert "use -o PATH" in done.stderr


def test_missing_input_is_wrong_usage(run_identity: Any) -> None:
    assert run_identity("annotate", "none.csv").returncode == 2


def test_annotated_file_imports_as_the_input_does(
    run_identity: Any, contacts: str, tmp_path: Path
) -> None:
    run_identity("annotate", contacts, "-o", "out.csv")
    run_identity("import", contacts, "-q")
    done = run_identity("import", "out.csv", "--json", "-q")
    rows = json.loads(done.stdout)["rows"]
    assert (rows["unchanged"], rows["rejected"]) == (2, 1)
    again = run_identity("annotate", "out.csv").stdout
    assert again == run_identity("annotate", contacts).stdout


def test_another_region_than_the_stored_one_is_refused(run_identity: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("phone\n202-555-0101\n")
    run_identity("identify", "--phone", "+1 202 555 0101", "--region", "US")
    assert ",1,known\n" in run_identity("annotate", "a.csv").stdout
    done = run_identity("annotate", "a.csv", "--region", "DE")
    assert done.returncode == 5
    assert "use --region US" in done.stderr


def test_role_that_may_only_read_can_annotate(
    run_identity: Any, contacts: str, database_url: str
) -> None:
    role = "reader_of_annotate"
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN")
        try:
            roles.grant(owner, role, read_only=True)
            separator = "&" if "?" in database_url else "?"
            url = f"{database_url}{separator}options=-c%20role%3D{role}"
            done = run_identity("annotate", contacts, env={"DATABASE_URL": url})
            assert (done.returncode, done.stdout.count("known")) == (0, 2)
        finally:
            owner.execute(f"DROP OWNED BY {role}")
            owner.execute(f"DROP ROLE {role}")
