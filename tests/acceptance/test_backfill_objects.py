"""`identity backfill` of objects in S3, beside the same files on disk."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
import zstandard
from backfills import as_csv, as_json, as_json_lines, as_parquet, as_vcards, messy_rows, stored
from storing import ENCODED_SECRET, ENVIRONMENT, KEY, SECRET, Bucket, s3_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Run = Callable[..., subprocess.CompletedProcess[str]]
    Clone = Callable[[], AbstractContextManager[str]]

REAL = Path(__file__).parents[1] / "files" / "real"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def bucket(port: int) -> Bucket:
    return Bucket(port, f"test-{uuid4()}")


@pytest.fixture
def other_url(cloned_database: Clone) -> Iterator[str]:
    """A second database, into which a test loads the files that it also has as objects."""
    with cloned_database() as url:
        yield url


def backfill(run: Run, *arguments: object, code: int = 0, **env: str) -> Any:
    """Backfill; return the summary."""
    done = run("backfill", *arguments, "--json", env=ENVIRONMENT | env)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def write_inputs(folder: Path) -> list[Path]:
    """Write the same people in every format, compressed ones too; their names rise."""
    folder.mkdir()
    rows = messy_rows(5, 240)
    csv = as_csv(folder / "a.csv", rows[:40])
    (folder / "b.csv.gz").write_bytes(gzip.compress(as_csv(folder / "x", rows[30:70]).read_bytes()))
    data = as_csv(folder / "x", rows[60:100]).read_bytes()
    (folder / "c.csv.zst").write_bytes(zstandard.compress(data))
    with zipfile.ZipFile(folder / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(as_csv(folder / "x", rows[90:130]), "d.csv")
    as_json_lines(folder / "e.jsonl", rows[120:160])
    as_json(folder / "f.json", rows[150:190])
    as_parquet(folder / "g.parquet", rows[180:220])
    as_vcards(folder / "h.vcf", rows[200:])
    shutil.copy(REAL / "34-odoo.xlsx", folder / "i.xlsx")
    (folder / "x").unlink()
    assert csv.exists()
    return sorted(folder.iterdir())


def test_objects_of_all_formats_are_stored_as_the_same_files_are(
    run_identity: Run, database_url: str, other_url: str, bucket: Bucket, tmp_path: Path
) -> None:
    files = write_inputs(tmp_path / "files")
    for file in files:
        bucket.put(f"crm/{file.name}", file)
    bucket.put("crm/.hidden", b"not read")
    bucket.put("crm/deeper/a.csv", b"not read")
    more = ("--region", "US", "--max-rejects", "100%")
    local = backfill(run_identity, *files, *more, DATABASE_URL=other_url)
    remote = backfill(run_identity, bucket.url("crm/*"), *more)

    assert remote["input"] == [f"s3://{bucket.name}/crm/{file.name}" for file in files]
    assert remote["rows"] == local["rows"]
    assert local["rows"]["read"] > 250
    assert stored(database_url) == stored(other_url)
    # Rejected rows go to the current directory, with the same content.
    rejects = [(Path(path).name, (tmp_path / path).read_bytes()) for path in remote["rejects"]]
    assert rejects == [(Path(path).name, Path(path).read_bytes()) for path in local["rejects"]]
    assert len(rejects) > 3
    assert all(Path(path).name == path for path in remote["rejects"])


def test_an_object_and_a_file_are_read_together(
    run_identity: Run, database_url: str, other_url: str, bucket: Bucket, tmp_path: Path
) -> None:
    rows = messy_rows(8, 60)
    first = as_csv(tmp_path / "first.csv", rows[:30])
    second = as_csv(tmp_path / "second name.csv", rows[30:])
    bucket.put(second.name, second)
    more = ("--max-rejects", "100%")
    local = backfill(run_identity, first, second, *more, DATABASE_URL=other_url)
    remote = backfill(run_identity, first, bucket.url(second.name), *more)
    assert remote["rows"] == local["rows"]
    assert stored(database_url) == stored(other_url)


def test_objects_with_one_last_name_have_rejects_files_of_their_own(
    run_identity: Run, bucket: Bucket, tmp_path: Path
) -> None:
    for year in (2019, 2020):
        bucket.put(f"{year}/part.csv", f"email\nbad {year}\n".encode())
    done = backfill(run_identity, bucket.url("20??/part.*"), code=3)
    assert done["rejects"] == ["part.csv.1.rejects", "part.csv.2.1.rejects"]
    texts = [(tmp_path / path).read_text() for path in done["rejects"]]
    assert ["bad 2019" in text for text in texts] == [True, False]
    assert ["bad 2020" in text for text in texts] == [False, True]


def test_what_was_read_is_not_read_again(run_identity: Run, bucket: Bucket) -> None:
    bucket.put("a.csv", b"email\na@example.com\n")
    arguments = ("compute", bucket.url("a.csv"), "--work", "work")
    backfill(run_identity, *arguments)
    again = run_identity("backfill", *arguments, env=ENVIRONMENT)
    assert "resuming in work: 1 of 1 inputs are read" in again.stderr
    assert again.returncode == 0


@pytest.mark.parametrize("content", [b"email\nb@example.com\n", b"email\nlonger@example.com\n"])
def test_an_object_that_has_changed_is_an_error(
    run_identity: Run, bucket: Bucket, content: bytes
) -> None:
    bucket.put("a.csv", b"email\na@example.com\n")
    arguments = ("compute", bucket.url("a.csv"), "--work", "work")
    backfill(run_identity, *arguments)
    bucket.put("a.csv", content)
    failed = backfill(run_identity, *arguments, code=2)
    assert failed["error"] == {
        "code": "usage",
        "message": f"s3://{bucket.name}/a.csv has changed since the backfill in work was begun",
        "hint": "use --restart to start over, or another --work directory",
    }
    assert backfill(run_identity, *arguments, "--restart")["rows"]["created"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.csv", "/missing.csv: there is no such object"),
        ("crm", "/crm is a folder"),
        ("crm/*.gz", "/crm/*.gz matches no object"),
        ("other/*.csv", "/other/*.csv matches no object"),
    ],
)
def test_a_missing_object_is_an_error_with_a_hint(
    run_identity: Run, bucket: Bucket, name: str, message: str
) -> None:
    bucket.put("crm/a.csv", b"email\n")
    failed = backfill(run_identity, bucket.url(name), code=2)
    assert failed["error"]["message"] == f"s3://{bucket.name}{message}"
    assert failed["error"]["code"] == "input_not_found"
    assert failed["error"]["hint"]


def test_a_missing_bucket_is_an_error_with_a_hint(run_identity: Run, bucket: Bucket) -> None:
    bucket.name = "missing"
    failed = backfill(run_identity, bucket.url("a.csv"), code=2)
    assert failed["error"]["message"] == "s3://missing/a.csv: there is no bucket missing"


def test_refused_credentials_are_an_error_and_never_shown(
    run_identity: Run, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("a.csv", b"email\na@example.com\n")
    # From now on the server knows nobody.
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)
    for name in ("a.csv", "*.csv"):
        failed = backfill(run_identity, bucket.url(name), code=2)
        assert "AWS Error" in failed["error"]["message"]
        assert failed["error"]["hint"].startswith("check the credentials")
        done = run_identity("backfill", bucket.url(name), "--debug", env=ENVIRONMENT)
        assert "Traceback" in done.stderr
        for secret in (KEY, SECRET, ENCODED_SECRET):
            assert secret not in done.stdout + done.stderr + str(failed)


def test_an_unreachable_endpoint_is_an_error_with_a_hint(run_identity: Run) -> None:
    url = f"s3://{KEY}:{ENCODED_SECRET}@bucket/a.csv?endpoint_override=127.0.0.1:1&scheme=http"
    failed = backfill(run_identity, url, code=2)
    assert failed["error"]["message"].startswith("s3://bucket/a.csv: ")
    assert "connect to server" in failed["error"]["message"]
    assert failed["error"]["hint"].startswith("check the network")


def test_credentials_are_stored_nowhere(
    run_identity: Run, database_url: str, bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("a.csv", b"email\na@example.com\nbad\n")
    results = ("--summary", "summary.json", "--metrics", "metrics.prom", "--work", "work")
    done = run_identity(
        "backfill", bucket.url("a.csv"), *results, "--progress", "json", env=ENVIRONMENT
    )
    assert done.returncode == 3, done.stderr
    shown = done.stdout + done.stderr + run_identity("runs", "--json").stdout
    with psycopg.connect(database_url) as connection:
        rows = connection.execute("SELECT r::text FROM import_run AS r").fetchall()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert f"s3://{bucket.name}/a.csv" in str(rows)
    assert any(f"s3://{bucket.name}/a.csv".encode() in file for file in files)
    for secret in (KEY, SECRET, ENCODED_SECRET):
        assert secret not in shown
        assert secret not in str(rows)
        assert not any(secret.encode() in file for file in files)


def test_import_points_to_backfill(run_identity: Run) -> None:
    done = run_identity("import", "s3://bucket/a.csv")
    assert done.returncode == 2
    assert "use identity backfill, which reads from object storage" in done.stderr
