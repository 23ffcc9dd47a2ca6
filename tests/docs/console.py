"""The `console` blocks of the documentation: run in order, and compared with what they show.

`python tests/docs/console.py [PAGE…]` rewrites the output in the pages where it differs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.pages import PAGES, ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

# A line that stands for any number of lines, and a mark that stands for any text in a line.
ANY_LINES = "..."
ANY_TEXT = "…"

_END_OF_COMMAND = "\x1e"
_PORT = "8000"
_SECONDS = 60

# What differs from run to run.
_VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?"), "TIME"),
    (re.compile(r"\b\d+\.\d s, [\d,]+ rows/s"), "SECONDS, RATE"),
    (re.compile(r'("(?:seconds|rows_per_second)": )[\d.]+'), r"\1NUMBER"),
    # The rate in the list of runs, before the inputs.
    (re.compile(r"(\t\d+\t\d+\t)\d+(\t[^\t]+)$"), r"\1RATE\2"),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page with the output that the page shows; `line` is the command's first."""

    page: Path
    line: int
    text: str
    shown: tuple[str, ...]


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's `console` blocks."""
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language != "console":
            continue
        assert block.lines[0].startswith("$ "), f"{page}:{block.line}: not a command"
        starts = [i for i, line in enumerate(block.lines) if line.startswith("$ ")]
        for start, end in zip(starts, [*starts[1:], len(block.lines)], strict=True):
            first = block.lines[start].removeprefix("$ ")
            yield Command(page, block.line + start, first, block.lines[start + 1 : end])


def run(page: Path, *, home: Path) -> list[tuple[Command, tuple[str, ...]]]:
    """Run the commands of a page in one shell, in a folder with the samples and examples.

    `home` is the folder of the embedded server. Returns each command with its output, standard
    output and standard error together as on a terminal.
    """
    asked = list(commands(page))
    with tempfile.TemporaryDirectory(prefix="identity-docs-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "samples", folder / "samples")
        for example in ("replay.py", "follow.sh"):
            shutil.copy(ROOT / "docs" / example, folder)
        port = str(_free_port())
        text = _execute(
            _script(asked)
            .replace(f":{_PORT}", f":{port}")
            .replace(f"--port {_PORT}", f"--port {port}"),
            folder,
            home,
        )
    outputs = text.replace(f":{port}", f":{_PORT}").split(_END_OF_COMMAND)
    assert len(outputs) == len(asked) + 1, f"{page} did not run to its end:\n{text}"
    return [
        (command, tuple(output.splitlines()))
        for command, output in zip(asked, outputs, strict=False)
    ]


def is_as_shown(command: Command, output: tuple[str, ...]) -> bool:
    """Whether the output is the one that the page shows, apart from times and rates."""
    pattern = ""
    for line in command.shown:
        if line.strip() == ANY_LINES:
            pattern += "(?:.*\n)*"
        else:
            pattern += ".*".join(map(re.escape, normal(line).split(ANY_TEXT))) + "\n"
    return re.fullmatch(pattern, "".join(f"{normal(line)}\n" for line in output)) is not None


def normal(line: str) -> str:
    """Return a line of output without what differs from run to run."""
    for pattern, replacement in _VARIABLE:
        line = pattern.sub(replacement, line)
    return line.rstrip()


def rewrite(page: Path, *, home: Path) -> int:
    """Put the real output into the page where it differs; return how many commands differed."""
    lines = page.read_text(encoding="utf-8").splitlines()
    differing = [(c, output) for c, output in run(page, home=home) if not is_as_shown(c, output)]
    for command, output in reversed(differing):
        lines[command.line : command.line + len(command.shown)] = map(str.rstrip, output)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(differing)


def _script(asked: list[Command]) -> str:
    """Return a shell script that ends the output of every command with a mark."""
    mark = "status=$?; printf '\\036'; (exit $status)"
    return "exec 2>&1\n" + "".join(f"{command.text}\n{mark}\n" for command in asked)


def _execute(script: str, folder: Path, home: Path) -> str:
    programs = folder / ".bin"
    programs.mkdir()
    here = Path(__file__).parent
    for name, arguments in (
        ("identity", ("-m", "identity_cli")),
        ("curl", (str(here / "curl.py"),)),
        ("python3", ()),
    ):
        program = programs / name
        words = " ".join(f"'{word}'" for word in (sys.executable, *arguments))
        program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        program.chmod(0o755)
    environment = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "IDENTITY_HOME": str(home),
    }
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            shell.wait(_SECONDS)
        finally:
            _end(shell)
        output.seek(0)
        return output.read()


def _end(shell: subprocess.Popen[bytes]) -> None:
    """Stop what a page left running, such as `identity serve`, in order."""
    try:
        os.killpg(shell.pid, signal.SIGTERM)
        shell.wait(10)
    except ProcessLookupError:
        return
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def main() -> None:
    from docs.servers import fresh_database, running_server

    with running_server() as home:
        for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
            if any(commands(page)):
                fresh_database(home)
                count = rewrite(page, home=home)
                sys.stdout.write(f"{page.relative_to(ROOT)}: {count} changed\n")


if __name__ == "__main__":
    main()
