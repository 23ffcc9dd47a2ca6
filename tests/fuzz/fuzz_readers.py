"""Coverage-guided fuzzing of the readers and of normalisation, with atheris.

atheris is not a dependency; install it beside the package, then:

    python tests/fuzz/fuzz_readers.py tests/fuzz/corpus -max_total_time=600 -timeout=10

The first byte of an input chooses its format, encoding and region. An input that ends the run is
written to crash-…, give that file as the only argument to see it again. What it has found becomes
an example in tests/unit/test_readers.py; inputs that reached new code are kept in the corpus.

Without atheris the inputs that are named, or those of the named folders, are read once.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import closing, nullcontext, suppress
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

with nullcontext() if atheris is None else atheris.instrument_imports(include=["identity_cli"]):
    from identity_cli.errors import InputUnreadableError, InvalidRequestError
    from identity_cli.graph.normalize import REJECT_CODES, ContactRequest
    from identity_cli.importer.formats import InputOptions, Row, open_reader
    from identity_cli.importer.source import Source

ENCODINGS = ("utf-8", "latin-1", "utf-16", "shift_jis")
_folder = tempfile.TemporaryDirectory()


def read(data: bytes) -> None:
    """Everything that an import does with bytes; raises what is a defect."""
    choice, data = (data[0] if data else 0), data[1:]
    options = InputOptions(
        input_format="jsonl" if choice & 1 else "csv", encoding=ENCODINGS[choice >> 1 & 3]
    )
    region = "US" if choice & 8 else None
    path = Path(_folder.name) / "input"
    path.write_bytes(data)
    source = Source(str(path))
    with closing(source), suppress(InputUnreadableError):
        for row in open_reader(source, options).rows():
            code = _code_of(row, region)
            assert code is None or code in REJECT_CODES


def _code_of(row: Row, region: str | None) -> str | None:
    try:
        if row.problem is not None:
            raise row.problem
        once = ContactRequest(emails=row.emails, phones=row.phones, region=region)
        assert ContactRequest(emails=once.emails, phones=once.phones, region=region) == once
    except InvalidRequestError as error:
        return error.code
    return None


def main(arguments: list[str]) -> None:
    if atheris is not None:
        atheris.Setup(arguments, read)
        atheris.Fuzz()
        return
    named = [Path(one) for one in arguments[1:] if not one.startswith("-")]
    files = [file for one in named for file in (sorted(one.iterdir()) if one.is_dir() else [one])]
    for file in files:
        read(file.read_bytes())
    sys.stderr.write(f"{len(files)} inputs read; install atheris to look for more\n")


if __name__ == "__main__":
    main(sys.argv)
