"""Problems of a fleet repository for people (with the line they are in), for programs, and for GitHub's annotations."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import click
from rich.cells import cell_len

from reconciler.core.fleet.documents import Mark, Problem, Severity

WIDTH: Final = 100
_COLOURS: Final = {Severity.ERROR: "red", Severity.WARNING: "yellow"}


def problems_text(problems: Iterable[Problem], line_of: Callable[[Mark], str | None]) -> str:
    """One paragraph a problem: place, code, message; the line with a caret; the hint. With colours (see click.echo)."""
    return "".join(f"{line}\n" for problem in problems for line in _paragraph(problem, line_of(problem.mark)))


def problems_github(problems: Iterable[Problem]) -> str:
    """Workflow commands, which GitHub shows beside the lines of a pull request."""
    return "".join(f"{_annotation(problem)}\n" for problem in problems)


def problems_data(problems: Sequence[Problem], *, documents: int) -> dict[str, Any]:
    """What `-o json` and `-o yaml` print."""
    return {"documents": documents, **count(problems), "problems": [_data(problem) for problem in problems]}


def count(problems: Iterable[Problem]) -> dict[str, int]:
    found = [problem.severity for problem in problems]
    return {"errors": found.count(Severity.ERROR), "warnings": found.count(Severity.WARNING)}


def summary(counts: Mapping[str, int], *, documents: int) -> str:
    """The closing line."""
    errors, warnings = counts["errors"], counts["warnings"]
    what = _plural(documents, "document")
    if not errors and not warnings:
        return f"ok: {what}, no problems"
    return f"{_plural(errors, 'error')}, {_plural(warnings, 'warning')} in {what}"


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _paragraph(problem: Problem, source: str | None) -> Iterator[str]:
    colour = _COLOURS[problem.severity]
    severity = click.style(str(problem.severity), fg=colour, bold=True)
    yield f"{click.style(str(problem.mark), bold=True)}: {severity} {problem.code}: {problem.message}"
    if source is not None:
        shown, column = excerpt(source, problem.mark.column)
        yield f"    {shown}"
        yield f"    {' ' * column}{click.style('^', fg=colour, bold=True)}"
    if problem.hint:
        yield f"    {click.style('hint:', fg='cyan')} {problem.hint}"


def excerpt(line: str, column: int) -> tuple[str, int]:
    """The part of a line around a column (from 1) that fits, and the cells before the caret.

    What a terminal would act on is replaced: the line comes from whoever wrote the file.
    """
    safe = "".join(character if character.isprintable() else " " for character in line.replace("\t", " "))
    start = max(0, min(column - 1 - WIDTH // 2, len(safe) - WIDTH))
    left, right = "…" if start else "", "…" if start + WIDTH < len(safe) else ""
    return f"{left}{safe[start : start + WIDTH]}{right}", cell_len(left + safe[start : column - 1])


def _annotation(problem: Problem) -> str:
    mark = problem.mark
    where = f"file={_escaped(mark.file, ':,')},line={mark.line},col={mark.column},title={problem.code}"
    text = f"{problem.message}\n{problem.hint}" if problem.hint else problem.message
    return f"::{problem.severity} {where}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """GitHub's escapes of workflow commands."""
    return "".join(
        f"%{ord(character):02X}" if character in f"%\r\n{more}" else character for character in text
    )


def _data(problem: Problem) -> dict[str, Any]:
    mark = problem.mark
    return {
        "file": mark.file,
        "line": mark.line,
        "column": mark.column,
        "severity": str(problem.severity),
        "code": str(problem.code),
        "message": problem.message,
        "hint": problem.hint,
    }
