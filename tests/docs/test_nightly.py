"""The crontab and the script for a nightly import, run as cron runs them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Under the name of a user, and with nothing else: that is all that cron hands over.
CRON_ENVIRONMENT = {"LOGNAME": "nightly", "USER": "nightly"}


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that the stub received."""

    subject: str
    recipient: str
    body: str


class Machine:
    """A machine with the program, the script and the crontab installed below `root`."""

    def __init__(self, root: Path, database_url: str) -> None:
        self.root = root
        self.input = root / "srv/contacts/contacts.csv"
        self.results = root / "srv/contacts/results"
        self.program = root / "opt/identity/bin/identity"
        self.results.mkdir(parents=True)
        self.program.parent.mkdir(parents=True)
        self._mailbox = root / "mailbox"
        self._mailbox.mkdir()
        self._install(self.program, f"exec '{sys.executable}' -m identity_cli \"$@\"")
        self._stubs = root / "stubs"
        self._stubs.mkdir()
        self.set_mail("exit 0")
        shutil.copy(ROOT / "docs/nightly.sh", root / "opt/identity/nightly.sh")
        text = (ROOT / "docs/nightly.crontab").read_text(encoding="utf-8")
        self.settings = dict(re.findall(r"^([A-Z_]+)=(.*)$", text, flags=re.MULTILINE))
        (self.command,) = re.findall(r"^\d+ \d+ \* \* \*  (.+)$", text, flags=re.MULTILINE)
        self.settings = {
            name: re.sub(r"^/(?=opt|srv)", f"{root}/", value)
            for name, value in self.settings.items()
        }
        self.settings["PATH"] = f"{self._stubs}:{self.settings['PATH']}"
        self.settings["DATABASE_URL"] = database_url

    def set_mail(self, end: str) -> None:
        """Install a mail command that keeps what it gets and ends with `end`."""
        keep = f"printf '%s\\n' \"$@\" >'{self._mailbox}/arguments'; cat >'{self._mailbox}/body'"
        self._install(self._stubs / "mail", f"{keep}; {end}")

    def run_night(self) -> subprocess.CompletedProcess[str]:
        """Run the crontab's command as cron does: a shell, a bare environment, the settings."""
        for file in self._mailbox.iterdir():
            file.unlink()
        command = re.sub(r"(?<=\s)/(?=opt)", f"{self.root}/", self.command)
        return subprocess.run(
            [self.settings["SHELL"], "-c", command],
            env={**CRON_ENVIRONMENT, "HOME": str(self.root), **self.settings},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def mail(self) -> Mail | None:
        """Return the mail of the last night, None if there was none."""
        if not (self._mailbox / "body").exists():
            return None
        option, subject, recipient = (self._mailbox / "arguments").read_text().splitlines()
        assert option == "-s"
        return Mail(subject, recipient, (self._mailbox / "body").read_text())

    def mailed_summary(self) -> dict[str, object]:
        """Return the summary at the end of the mail."""
        mail = self.mail()
        assert mail is not None
        _, mark, summary = mail.body.partition("--- summary of the import\n")
        assert mark
        found: dict[str, object] = json.loads(summary)
        return found

    @staticmethod
    def _install(path: Path, command: str) -> None:
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, database_url: str) -> Machine:
    """A machine whose input is the sample."""
    installed = Machine(tmp_path, database_url)
    shutil.copy(ROOT / "samples/contacts.csv", installed.input)
    return installed


def test_successful_night_exports_and_mails_nothing(machine: Machine) -> None:
    for _ in range(2):
        done = machine.run_night()
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert machine.mail() is None
    assert len((machine.results / "identities.jsonl").read_text().splitlines()) == 59
    assert "Since run 1 ended" in (machine.results / "report.html").read_text(encoding="utf-8")


def test_night_writes_metrics_if_there_is_a_folder_for_them(machine: Machine) -> None:
    folder = machine.root / "node exporter"
    folder.mkdir()
    machine.settings["METRICS"] = str(folder)
    shutil.copy(ROOT / "samples/messy.csv", machine.input)
    assert machine.run_night().returncode == 3
    assert sorted(path.name for path in folder.iterdir()) == [
        *("identity-import.prom", "identity-verify.prom"),
    ]
    metrics = "".join(path.read_text() for path in folder.iterdir())
    assert 'identity_import_exit_code{file="identity-import"} 3\n' in metrics
    assert 'identity_verify_exit_code{file="identity-verify"} 0\n' in metrics


def test_rejected_rows_are_mailed_and_the_graph_is_exported(machine: Machine) -> None:
    shutil.copy(ROOT / "samples/messy.csv", machine.input)
    assert machine.run_night().returncode == 3
    mail = machine.mail()
    assert mail is not None
    assert mail.subject.endswith("failed: import")
    assert mail.recipient == "ops@example.com"
    assert "--- import: exit code 3\n" in mail.body
    assert "--- verify: exit code 0\n" in mail.body
    rejected = r"\b2 of 13 rows were rejected, .*: see .*\.rejects$"
    assert re.search(rejected, mail.body, flags=re.MULTILINE)
    summary = machine.mailed_summary()
    assert (summary["status"], summary["exit_code"]) == ("finished", 3)
    assert (machine.results / "identities.jsonl").exists()


def test_unreachable_database_is_mailed_with_the_summary_of_this_night(machine: Machine) -> None:
    assert machine.run_night().returncode == 0
    machine.settings["DATABASE_URL"] = "postgresql://nightly@127.0.0.1:1/identity"
    assert machine.run_night().returncode == 5
    mail = machine.mail()
    assert mail is not None
    assert mail.subject.endswith("failed: import")
    assert "error: " in mail.body
    assert "--- verify" not in mail.body
    summary = machine.mailed_summary()
    assert (summary["status"], summary["exit_code"]) == ("failed", 5)


def test_violation_is_mailed_and_the_graph_is_not_exported(machine: Machine) -> None:
    assert machine.run_night().returncode == 0
    (machine.results / "identities.jsonl").unlink()
    with psycopg.connect(machine.settings["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO link_evidence (primary_id, value, other_value, created_at)"
            " SELECT min(c.id), min(c.email), min(d.phone_number), now() FROM contact c, contact d"
            " WHERE c.id = 1 AND d.link_precedence = 'primary' AND d.id <> 1"
            " AND d.phone_number IS NOT NULL AND c.email IS NOT NULL"
        )
    assert machine.run_night().returncode == 3
    mail = machine.mail()
    assert mail is not None
    assert mail.subject.endswith("failed: verify")
    assert "unmerged" in mail.body
    assert machine.mailed_summary()["exit_code"] == 0
    assert not (machine.results / "identities.jsonl").exists()


def test_missing_program_is_mailed_without_an_old_summary(machine: Machine) -> None:
    assert machine.run_night().returncode == 0
    machine.program.unlink()
    assert machine.run_night().returncode == 127
    mail = machine.mail()
    assert mail is not None
    assert "not found" in mail.body
    assert "--- summary" not in mail.body


def test_report_that_cannot_be_mailed_is_printed_for_cron(machine: Machine) -> None:
    machine.input.unlink()
    machine.set_mail("exit 1")
    done = machine.run_night()
    assert done.returncode == 2
    assert "--- import: exit code 2\n" in done.stderr
    assert "contacts.csv" in done.stderr


def test_setting_that_is_missing_is_named(machine: Machine) -> None:
    del machine.settings["INPUT"]
    done = machine.run_night()
    assert done.returncode != 0
    assert "set INPUT to the file to import" in done.stderr
