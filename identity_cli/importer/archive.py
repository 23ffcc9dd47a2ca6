"""Zip files: the one file in an archive, decompressed, or the document that a zip file is."""

from __future__ import annotations

import struct
import zipfile
from typing import TYPE_CHECKING, BinaryIO, cast

from identity_cli.errors import InputUnreadableError
from identity_cli.importer.compression import Unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")

_ENCRYPTED = 1
# The standard library decompresses the other methods without a limit, so that a bomb would explode.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NAMES_SHOWN = 5
# Office documents and OpenDocument have one of these; they are zip files, but no archives.
_MARKS_OF_DOCUMENTS = {"[Content_Types].xml", "mimetype"}


def open_only_file(archive: BinaryIO, name: str) -> Unpacked | None:
    """Return the content of the only file in an archive; None if it is an office document.

    Folders and what macOS adds do not count. Raises `InputUnreadableError`.
    """
    opened = _open(archive, name)
    if is_document(opened.namelist()):
        return None
    files = [entry for entry in opened.infolist() if not _is_ignored(entry)]
    if len(files) != 1:
        raise _not_one_file(name, [entry.filename for entry in files])
    if files[0].flag_bits & _ENCRYPTED:
        raise InputUnreadableError(
            name, "the zip file is encrypted", hint="extract it with its password, then import that"
        )
    if files[0].compress_type not in _METHODS:
        raise InputUnreadableError(
            name,
            "the zip file uses a compression method that is not supported",
            hint="extract it, then import the file that was in it",
        )
    try:
        content = cast("zipfile.ZipExtFile", opened.open(files[0]))
    except zipfile.BadZipFile as error:
        raise _broken(name) from error
    return Unpacked(content.read1, name)


def is_document(names: Sequence[str]) -> bool:
    """Return whether a zip file with these entries is a document, not an archive."""
    return not _MARKS_OF_DOCUMENTS.isdisjoint(names)


def entry_names(archive: BinaryIO, name: str) -> list[str]:
    """Return the names of all entries. Raises `InputUnreadableError`."""
    return _open(archive, name).namelist()


def _open(archive: BinaryIO, name: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise _broken(name) from error


def _is_ignored(entry: zipfile.ZipInfo) -> bool:
    folders, _, last = entry.filename.rpartition("/")
    return entry.is_dir() or folders.split("/")[0] == "__MACOSX" or last == ".DS_Store"


def _not_one_file(name: str, names: list[str]) -> InputUnreadableError:
    if not names:
        return InputUnreadableError(
            name, "the zip file is empty", hint="put the file to import into it"
        )
    listed = ", ".join(repr(one[:60]) for one in names[:_NAMES_SHOWN])
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return InputUnreadableError(
        name,
        f"the zip file holds {len(names)} files: {listed}{more}",
        hint="extract it, then import the files that hold contacts",
    )


def _broken(name: str) -> InputUnreadableError:
    return InputUnreadableError(
        name, "the zip file is broken or cut off", hint="download or make the file again"
    )
