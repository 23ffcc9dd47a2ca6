"""The reference is complete, and names nothing that the program does not have."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from typing import TYPE_CHECKING, Any

import pytest
import typer
from docs.pages import EVERY_PAGE, PAGES, ROOT, blocks, code_spans, first_cells, section

from identity_cli import errors
from identity_cli.cli import app
from identity_cli.exit_codes import EXIT_CODES
from identity_cli.graph.normalize import REJECT_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS = ROOT / "docs"
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
IMPORTS = (DOCS / "imports.md").read_text(encoding="utf-8")
BACKFILL = (DOCS / "backfill.md").read_text(encoding="utf-8")
HTTP = (DOCS / "http.md").read_text(encoding="utf-8")
SOURCES = sorted((ROOT / "identity_cli").rglob("*.py"))

# The options that commands.md describes once for all commands.
SHARED = {"--database-url", "--debug", "-h", "--help"}

Path_ = tuple[str, ...]


def program(group: Any = None, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every command and group of the program with its path."""
    group = typer.main.get_command(app) if group is None else group
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from program(command, (*path, name))


PROGRAM = dict(program())


def options(path: Path_) -> set[str]:
    """Return the options of a command, with -h and --help."""
    found = {"-h", "--help"}
    for parameter in PROGRAM[path].params:
        if parameter.param_type_name == "option":
            found.update(parameter.opts, parameter.secondary_opts)
    return found


def reference(path: Path_) -> str:
    """Return the part of the documentation that describes a command."""
    if path == ("import",):
        return section(IMPORTS, "Options")
    if path[:1] == ("backfill",):
        return section(BACKFILL, "Options")
    if path == ("serve",):
        return section(HTTP, "Options")
    if not path:
        return section(COMMANDS, "Options of every command")
    return section(COMMANDS, f"identity {path[0]}")


def named_options(text: str) -> set[str]:
    """Return the options that inline code begins with or consists of."""
    words = [word for span in code_spans(text) for word in span.split()]
    return {word for word in words if re.fullmatch(r"-[a-zA-Z]|--[a-z][a-z-]+", word)}


def invocations(text: str) -> Iterator[list[str]]:
    """Yield the words of every `identity …` in inline code and in blocks."""
    lines = [line for block in blocks(text) for line in block.lines]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for line in [*lines, *code_spans(text)]:
        for found in re.finditer(r"(?:^|\$ |[|(&] ?|bin/)identity (?=[a-z-])([^|&;)<>`]*)", line):
            try:
                yield shlex.split(found[1], comments=True)
            except ValueError:
                yield found[1].split()


@pytest.mark.parametrize("path", PROGRAM, ids=lambda path: " ".join(("identity", *path)))
def test_every_option_of_the_command_is_in_its_reference(path: Path_) -> None:
    wanted = options(path) if not path else options(path) - SHARED
    assert wanted <= named_options(reference(path))


@pytest.mark.parametrize("path", PROGRAM, ids=lambda path: " ".join(("identity", *path)))
def test_every_command_is_named(path: Path_) -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert f"identity {' '.join(path)}".strip() in pages


@pytest.mark.parametrize("name", ["identify", "show", "import", "export", "runs", "serve"])
def test_option_tables_list_only_options_of_the_command(name: str) -> None:
    listed = named_options("\n".join(first_cells(reference((name,)), "option")))
    assert listed
    assert listed <= options((name,))


@pytest.mark.parametrize("page", EVERY_PAGE, ids=lambda page: page.name)
def test_commands_in_the_page_are_the_programs(page: Path) -> None:
    for words in invocations(page.read_text(encoding="utf-8")):
        path: Path_ = ()
        while words and (*path, words[0]) in PROGRAM:
            path = (*path, words.pop(0))
        if path == ("backfill",) and words and not words[0].startswith("-"):
            path = ("backfill", "run")
        if words and getattr(PROGRAM[path], "commands", None) and path != ("runs",):
            assert words[0].startswith("-") or words[0].isupper(), f"identity {path} {words[0]}"
        used = {w.partition("=")[0] for w in words if re.match(r"-[a-zA-Z]$|--[a-z]", w)}
        assert used <= options(path), f"identity {' '.join((*path, *words))}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_inline_code_are_the_programs(page: Path) -> None:
    known = set().union(*map(options, PROGRAM))
    for span in code_spans(page.read_text(encoding="utf-8")):
        if span.startswith("-") and span != "-" and span[1] != " ":
            assert span.split()[0].partition("=")[0] in known, span


def test_reject_codes_are_those_of_the_program() -> None:
    raised = {
        code
        for source in SOURCES
        for code in re.findall(
            r'InvalidRequestError\(\s*"(\w+)"', source.read_text(encoding="utf-8")
        )
    }
    listed = [cell.strip("`") for cell in first_cells(section(IMPORTS, "Rejected rows"), "code")]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(REJECT_CODES) | {"refused"}
    assert raised <= set(listed)


def test_exit_codes_are_those_of_the_program() -> None:
    listed = [int(cell) for cell in first_cells(section(COMMANDS, "Exit codes"), "code")]
    assert listed == sorted({0, 1, 3, 130, 141, 143, *(code for _, code in EXIT_CODES)})


def test_error_codes_are_those_of_the_program() -> None:
    def subclasses(error: type[errors.IdentityError]) -> Iterator[type[errors.IdentityError]]:
        yield error
        for subclass in error.__subclasses__():
            yield from subclasses(subclass)

    listed = [cell.strip("`") for cell in first_cells(section(COMMANDS, "Errors"), "code")]
    # A rejected request has the code of its reject.
    classes = [c for c in subclasses(errors.IdentityError) if "code" in vars(c)]
    assert len(classes) > 10
    assert sorted(listed) == sorted({str(vars(c)["code"]) for c in classes})


def test_violations_are_those_of_verify() -> None:
    found = set()
    for module in ("verify", "row_checks", "value_checks"):
        source = (ROOT / f"identity_cli/graph/{module}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'\.add\(\s*"(\w+)"', source))
        if module == "row_checks":
            found |= set(re.findall(r'^    \(\s*"(\w+)",', source, flags=re.MULTILINE))
    assert len(found) > 20
    listed = first_cells(section(COMMANDS, "identity verify"), "code")
    assert {cell.strip("`") for cell in listed} == found


def test_metrics_of_files_are_those_of_the_program() -> None:
    from identity_cli.graph.hubs import Hubs
    from identity_cli.graph.verify import Verification
    from identity_cli.importer.report import refused_report
    from identity_cli.output.metrics import import_metrics, verify_metrics

    report = dataclasses.replace(refused_report((), 0, None), hubs=Hubs(0, 0, ()))
    found = Verification(0, 0, "", (), {})
    names = {m.name for m in (*import_metrics(report), *verify_metrics(found, 0, 0.0, 0.0))}
    text = section((DOCS / "operation.md").read_text(encoding="utf-8"), "Metrics")
    cells = " ".join(first_cells(text, "metric"))
    assert set(re.findall(r"`(\w+)`", cells)) == names
    assert set(re.findall(r"identity_(?:import|verify)_\w+", text)) == names


def test_environment_variables_are_those_of_the_program() -> None:
    read = set()
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        read |= set(re.findall(r'environ(?:\.get\(|\.pop\(|\[)\s*"(\w+)"', text))
        read |= set(re.findall(r'getenv\("(\w+)"', text))
    entrypoint = (ROOT / "docker/entrypoint.sh").read_text(encoding="utf-8")
    read |= set(re.findall(r"\$\{([A-Z_]+):", entrypoint))
    listed = first_cells(section(COMMANDS, "Environment variables"), "variable")
    assert {cell.strip("`") for cell in listed} == read


def test_http_statuses_and_routes_are_those_of_the_application() -> None:
    from identity_cli.http.app import api

    paths = api.openapi()["paths"]
    statuses = {int(s) for path in paths.values() for m in path.values() for s in m["responses"]}
    listed = [int(cell) for cell in first_cells(section(HTTP, "Status codes"), "status")]
    assert listed == sorted(statuses)
    routes = {
        f"{method.upper()} {path}" for path, methods in paths.items() for method in methods
    } | {"GET /docs", "GET /openapi.json"}
    named = {cell.strip("`") for cell in first_cells(section(HTTP, "Requests"), "request")}
    assert named | {f"HEAD /health/{kind}" for kind in ("live", "ready")} >= routes
    assert named <= routes


def test_outcomes_of_the_http_log_are_those_of_the_program() -> None:
    folder = ROOT / "identity_cli/http"
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py")))
    found = set(re.findall(r'^    \d+: "(\w+)",$', text, flags=re.MULTILINE)) | {"found", "refused"}
    found |= {"created", "linked", "merged", "unchanged", "blocked", "forgotten"}
    listed = " ".join(first_cells(section(HTTP, "Log"), "outcome"))
    assert set(re.findall(r"`(\w+)`", listed)) == found


def test_input_formats_and_aliases_are_named() -> None:
    from identity_cli.commands.reading import FORMATS

    spans = code_spans(IMPORTS)
    assert set(FORMATS) <= set(spans)


def test_contributing_has_a_row_for_every_module() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = []
    package = ""
    for line in section(text, "Modules").splitlines():
        cells = [cell.strip(" `") for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and cells[1].endswith((".py", "/")):
            package = cells[0] or package
            listed.append(f"{package}/{cells[1]}".removeprefix("identity_cli/").rstrip("/"))
    modules = {str(source.relative_to(ROOT / "identity_cli")) for source in SOURCES}
    # An __init__.py with nothing but its docstring needs no row.
    trivial = {
        module
        for module in modules
        if module.endswith("/__init__.py")
        and len((ROOT / "identity_cli" / module).read_text(encoding="utf-8").splitlines()) < 12
    }
    assert len(listed) == len(set(listed))
    assert modules - trivial <= {*listed, "postgres/sql/__init__.py"}
    assert set(listed) <= {*modules, "postgres/sql"}


def test_readme_is_at_most_130_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_readme_begins_with_an_import_and_the_tests() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shell = [block for block in blocks(text) if block.language == "sh"]
    assert shell[0].lines[-1].endswith("identity import samples/google-contacts.csv --region US")
    assert "pytest" in shell[1].lines[-1]


def test_figures_are_of_benchmarks_that_exist() -> None:
    text = (DOCS / "figures.md").read_text(encoding="utf-8")
    cells = first_cells(text, "`python -m benchmarks …`")
    names = re.findall(r"^`(\w+)`", "\n".join(cells), flags=re.MULTILINE)
    assert names
    for name in names:
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), name


def test_promises_are_tested_by_files_that_exist() -> None:
    text = (DOCS / "promises.md").read_text(encoding="utf-8")
    rows = [line for line in section(text, "Promises").splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for row in rows[1:]:
        paths = re.findall(r"`([\w/]+(?:\.py|/))`", row.split("|")[2])
        assert paths, row
        for path in paths:
            assert (ROOT / "tests" / path).exists(), path


def test_schema_of_progress_knows_every_command_that_shows_it() -> None:
    schema = json.loads((DOCS / "progress.schema.json").read_text(encoding="utf-8"))
    shown = {" ".join(path) for path in PROGRAM if "--progress" in options(path)}
    # The first is short for the second; "policy off" sets every limit.
    shown = shown - {"backfill run", "policy off"} | {"backfill"}
    assert schema["properties"]["command"]["enum"] == sorted(shown)
