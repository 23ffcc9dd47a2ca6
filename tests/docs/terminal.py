"""The pictures of a terminal in `docs/pictures/`, made from the samples.

`python tests/docs/terminal.py` makes them; a test compares what they show with what the program
prints.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

PICTURES = ROOT / "docs/pictures"

_COLUMNS, _LINES = 104, 60
_PROMPT = "\x1b[1;32m$\x1b[0m"
_QUESTION = b"[y/N] "
_SECONDS = 60
# What differs from run to run, and what the pictures show instead.
_VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "2026-11-30 02:15:04"),
    (re.compile(r"in \d+\.\d s, [\d,]+ rows/s"), "in 0.1 s, 1,120 rows/s"),
    (re.compile(r"^(  rate +)[\d,]+ rows/s *$", re.MULTILINE), r"\g<1>1,120 rows/s"),
    (re.compile(r" +$", re.MULTILINE), ""),
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture: a command, and what a person types when it asks."""

    name: str
    command: str
    answer: str = ""


# In this order in one database.
SCENES = (
    Scene("import", "identity import samples/contacts.csv"),
    Scene("verify", "identity verify"),
    Scene("stats", "identity stats --top 5"),
    Scene("explain", "identity explain griff.wilson@hillvalley.example"),
    Scene("steering", "identity block 209-555-0137 --reason 'a switchboard'", answer="n\n"),
    Scene("dry-run", "identity import samples/contacts.jsonl --dry-run"),
)


def shown(scene: Scene, folder: Path, home: Path) -> str:
    """Run a scene in a folder with the samples; return what the terminal gets, with its colours."""
    output = _on_terminal(scene, folder, home).replace("\r\n", "\n")
    text = f"{_PROMPT} {scene.command}\n{output}"
    for pattern, replacement in _VARIABLE:
        text = pattern.sub(replacement, text)
    return f"{text.rstrip()}\n"


def _on_terminal(scene: Scene, folder: Path, home: Path) -> str:
    program, *arguments = shlex.split(scene.command)
    assert program == "identity"
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    with subprocess.Popen(
        [sys.executable, "-m", "identity_cli", *arguments, *_without_bar(arguments)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "IDENTITY_HOME": str(home),
        },
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=folder,
    ) as process:
        os.close(follower)
        found = b""
        answer = scene.answer.encode()
        while True:
            try:
                found += os.read(leader, 4096)
            except OSError:  # the process has closed its terminal
                break
            if answer and found.endswith(_QUESTION):
                os.write(leader, answer)
                answer = b""
        process.wait(_SECONDS)
    os.close(leader)
    return found.decode()


def _without_bar(arguments: list[str]) -> list[str]:
    """Return the option that keeps a bar, which is gone at the end, out of a picture."""
    return [] if arguments[0] == "explain" else ["--progress", "none"]


def progress_frame() -> str:
    """Return a frame of the bar of an import that takes minutes."""
    from identity_cli.output.progress import _Bar

    now = 0.0
    bar = _Bar(lambda: now)
    bar.expect(512_000_000, "bytes")
    bar.begin("rows")
    for second in range(1, 126):
        now = float(second)
        bar.read(1_500_000 * second, 512_000_000, 21_400 * second)
    frame = io.StringIO()
    _console(frame).print(bar.rich)
    return f"{_PROMPT} identity import contacts.csv\n{frame.getvalue()}"


def picture(text: str, name: str) -> str:
    """Return what a terminal shows as SVG."""
    from rich.console import CONSOLE_SVG_FORMAT
    from rich.text import Text

    console = _console(io.StringIO(), record=True)
    console.print(Text.from_ansi(text), end="")
    # A page loads nothing from elsewhere: the reader's own fonts will do.
    style = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    style = style.replace("Fira Code, monospace", "DejaVu Sans Mono, Menlo, Consolas, monospace")
    svg = console.export_svg(title="identity", code_format=style, unique_id=f"terminal-{name}")
    return "".join(f"{line.rstrip()}\n" for line in svg.splitlines())


def _console(file: io.StringIO, *, record: bool = False) -> Console:
    from rich.console import Console

    return Console(
        file=file,
        record=record,
        width=_COLUMNS,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
        _environ={},
    )


def words(svg: str) -> list[str]:
    """Return the lines of a picture without their white space, which depends on Rich's release."""
    lines: dict[str, str] = {}
    for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        if "clip-path" in element.attrib:  # the title has none
            line = lines.get(element.attrib["y"], "")
            lines[element.attrib["y"]] = line + "".join((element.text or "").split())
    return [line for line in lines.values() if line]


def pictures(home: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each picture with its SVG, of an empty database in `home`."""
    with tempfile.TemporaryDirectory(prefix="identity-terminal-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "samples", folder / "samples")
        for scene in SCENES:
            yield f"{scene.name}.svg", picture(shown(scene, folder, home), scene.name)
    yield "progress.svg", picture(progress_frame(), "progress")


def main() -> None:
    from docs.servers import fresh_database, running_server

    with running_server() as home:
        fresh_database(home)
        for name, svg in pictures(home):
            (PICTURES / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
