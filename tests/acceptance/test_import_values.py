"""Options that decide what of a row is used, and what an import reports of its values."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


def document(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def values(database_url: str) -> list[tuple[str | None, str | None]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT email, phone_number FROM contact ORDER BY id").fetchall()


def test_bad_value_does_not_cost_the_row_and_its_correction_completes_it(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,bad\nbad,2\nbad,bad\n")
    done = run_identity("import", "a.csv", "--json")
    assert done.returncode == 3
    rows = document(done)["rows"]
    assert rows == {
        "read": 3,
        "created": 2,
        "linked": 0,
        "merged": 0,
        "unchanged": 0,
        "blocked": 0,
        "rejected": 1,
        "partial": 2,
    }
    assert document(done)["rejected_by_code"] == {"bad_email": 2, "bad_phone": 1}
    rejects = tmp_path / "a.csv.1.rejects"
    corrected = rejects.read_text().replace("a@x.org,bad,2", "a@x.org,1,2")
    assert corrected != rejects.read_text()
    rejects.write_text(corrected)
    done = run_identity("import", rejects.name, "--json")
    assert document(done)["rows"]["linked"] == 1
    assert values(database_url) == [("a@x.org", None), (None, "2"), ("a@x.org", "1")]


def test_rows_of_the_rejects_file_count_for_the_limit(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,bad\nbad,2\nbad,bad\n")
    assert run_identity("import", "a.csv", "--max-rejects", "2").returncode == 3
    assert run_identity("import", "a.csv", "--max-rejects", "3").returncode == 0


def test_strict_import_rejects_a_row_with_a_bad_value(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("email,phone\na@x.org,bad\nb@x.org,2\n")
    done = run_identity("import", "a.csv", "--strict", "--json")
    assert done.returncode == 3
    rows = document(done)["rows"]
    assert (rows["created"], rows["rejected"], rows["partial"]) == (1, 1, 0)
    assert values(database_url) == [("b@x.org", "2")]


def test_null_words_are_absent_values(run_identity: Run, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email,phone\nnobody@x.org,1\nKEINE,2\na@x.org,keine\n")
    done = run_identity("import", "a.csv", "--null", "keine", "--null", "nobody@x.org")
    assert done.returncode == 0, done.stderr
    assert values(database_url) == [(None, "1"), (None, "2"), ("a@x.org", None)]


def test_region_of_the_row_counts_before_the_default(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(
        "phone,country\n020 7946 0601,United Kingdom\n(202) 555-0601,\n030 23125601,de\n"
        "12345,Atlantis\n+33 1 99 00 12 34,Atlantis\n"
    )
    options = ("--region", "US", "--region-column", "country")
    done = run_identity("import", "a.csv", *options, "--json")
    assert document(done)["rejected_by_code"] == {"bad_region": 1}
    phones = [phone for _, phone in values(database_url)]
    assert phones == ["+442079460601", "+12025550601", "+493023125601", "+33199001234"]


def test_outcomes_have_the_key_and_every_contact_of_the_row(
    run_identity: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,email,mobile,phone\nx7,a@x.org,1,2\nx8,,2,\n")
    run_identity("import", "a.csv", "--key", "id", "--outcomes", "o")
    outcomes = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    assert outcomes == [
        {
            "line": 2,
            "outcome": "created",
            "primaryContactId": 1,
            "contactId": 1,
            "contactIds": [1, 2],
            "key": "x7",
        },
        {
            "line": 3,
            "outcome": "unchanged",
            "primaryContactId": 1,
            "contactId": None,
            "key": "x8",
        },
    ]


def test_key_that_no_object_has_is_an_error_at_the_end(
    run_identity: Run, database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_text('{"email": "a@x.org"}\n')
    done = run_identity("import", "a.jsonl", "--map", "email=email", "--map", "email=e.mail")
    assert done.returncode == 4
    assert "'e.mail'" in done.stderr
    assert values(database_url) == [("a@x.org", None)]


def test_column_that_does_not_exist_is_wrong_usage(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("email\na@x.org\n")
    for option in (("--map", "phone=Tel"), ("--key", "id"), ("--region-column", "country")):
        done = run_identity("import", "a.csv", *option)
        assert done.returncode == 2, done.stderr
        assert "\n\nhint: the columns are 'email'" in done.stderr


def test_columns_are_reported_used_or_not(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Email,Owner Email,Mobile,Name\na@x.org,boss@x.org,1,Ann\n")
    done = run_identity("import", "a.csv", "--json")
    assert (
        "emails from 'Email'; phone numbers from 'Mobile'; not used: 'Owner Email'" in done.stderr
    )
    columns = document(done)["columns"]
    assert [(one["column"], one["use"]) for one in columns["used"]] == [
        ("Email", "email"),
        ("Mobile", "phone"),
    ]
    assert [one["column"] for one in columns["unused"]] == ["Owner Email"]


def test_columns_of_a_file_that_is_cut_off_are_reported(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"email": "a@x.org"}, {"email": "b@x')
    done = run_identity("import", "a.json")
    assert done.returncode == 4
    assert "note: a.json: emails from 'email'\n" in done.stderr


def test_phone_numbers_without_a_country_code_are_counted(
    run_identity: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("phone\n202-555-0101\n+1 202 555 0101\n")
    done = run_identity("import", "a.csv", "--json")
    assert document(done)["local_phone_numbers"] == 1
    assert "note: 1 row has phone numbers without a country code" in done.stderr


def test_shared_values_are_counted_and_named_in_the_summary_only(
    run_identity: Run, tmp_path: Path
) -> None:
    people = [f"p{i}@x.org,5550100" for i in range(21)]
    (tmp_path / "a.csv").write_text("\n".join(["email,phone", *people[:20]]))
    done = run_identity("import", "a.csv", "--json")
    assert document(done)["shared_values"]["count"] == 0
    # The next night's file has one more.
    (tmp_path / "b.csv").write_text("\n".join(["email,phone", people[20]]))
    done = run_identity("import", "b.csv", "--json", "--summary", "s")
    assert document(done)["shared_values"] == {"more_than": 20, "count": 1, "largest_identity": 21}
    assert "note: 1 value is shared by more than 20 others" in done.stderr
    assert "5550100" not in done.stderr + done.stdout
    shared = json.loads((tmp_path / "s").read_text())["shared_values"]
    assert shared["values"] == [{"value": "5550100", "partners": 21}]


def test_dry_run_reports_shared_values(run_identity: Run, tmp_path: Path) -> None:
    people = [f"p{i}@x.org,5550100" for i in range(21)]
    (tmp_path / "a.csv").write_text("\n".join(["email,phone", *people]))
    done = run_identity("import", "a.csv", "--json", "--dry-run")
    assert document(done)["shared_values"]["count"] == 1


def test_empty_file_of_json_lines_is_an_export_of_nobody(run_identity: Run, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    done = run_identity("import", "a.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert document(done)["rows"]["read"] == 0
    (tmp_path / "a.csv").write_text("")
    assert run_identity("import", "a.csv").returncode == 4
