"""`ttfleet validate`: every problem of a fleet repository at once, without a cluster."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from reconciler.adapters.source import (
    DirectorySource,
    File,
    Source,
    SourceError,
    SourceReason,
    WithoutHistory,
    blob_id,
    check_size,
)
from reconciler.adapters.tree import load_tree
from reconciler.commands.errors import EXIT_FINDINGS, EXIT_OK, Failure
from reconciler.core.fleet.documents import Mark, Problem, Tree
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.resolve import cluster_names, concerns
from reconciler.core.fleet.validate import check
from reconciler.report.data import to_json, to_yaml
from reconciler.report.problems import count, problems_data, problems_github, problems_text, summary


@click.command("validate")
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--cluster", metavar="NAME", help="Only what this cluster sees.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml", "github"]), default="text", show_default=True
)
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
    help="Colours; auto follows the terminal and NO_COLOR.",
)  # fmt: skip
def command(paths: tuple[Path, ...], cluster: str | None, output: str, strict: bool, color: str) -> int:
    """Check fleet repositories: each PATH is a directory (or a single file) that is a fleet of its own.

    Exits 0 without errors, 1 with, and 2 where a PATH cannot be read.
    """
    today = datetime.now(UTC).date().isoformat()
    checked = [examine(path, cluster, today) for path in paths or (Path(),)]
    problems = [problem for one in checked for problem in one.problems]
    documents = sum(one.documents for one in checked)
    counts = count(problems)
    match output:
        case "json":
            click.echo(to_json(problems_data(problems, documents=documents)), nl=False)
        case "yaml":
            click.echo(to_yaml([problems_data(problems, documents=documents)]), nl=False)
        case "github":
            click.echo(problems_github(problems), nl=False)
        case _:
            text = problems_text(
                problems, lambda mark: next(filter(None, (c.line(mark) for c in checked)), None)
            )
            click.echo(text + summary(counts, documents=documents), color=_colours(color))
    return EXIT_FINDINGS if counts["errors"] or (strict and counts["warnings"]) else EXIT_OK


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A fleet with its problems; `files` are its bytes by the path as people see it."""

    problems: tuple[Problem, ...]
    documents: int = 0
    files: dict[str, bytes] = field(default_factory=dict)

    def line(self, mark: Mark) -> str | None:
        """The line of a mark, None where it is in no file of this fleet."""
        data = self.files.get(mark.file)
        if data is None:
            return None
        lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        return lines[mark.line - 1].decode(errors="replace").rstrip("\r") if mark.line <= len(lines) else None


def examine(path: Path, cluster: str | None, today: str) -> Checked:
    """Everything that is wrong with the fleet at `path`.

    Raises:
        Failure: it cannot be read, or has no such cluster.
    """
    source = _source(path)
    try:
        revision = source.revision()
        tree = load_tree(source, revision)
        files = {_shown(path, file.path): file.data for file in source.files(revision)}
    except SourceError as error:
        if error.reason is not SourceReason.REFUSED:
            raise Failure(str(error)) from error
        refused = Problem(mark=Mark(file="."), code=Code.REFUSED, message=str(error))
        return Checked(problems=(_seen_from_here(path, refused),))
    found = _problems(tree, cluster, today)
    problems = tuple(_seen_from_here(path, problem) for problem in found)
    return Checked(problems=problems, documents=len(tree.documents) + len(tree.faulty), files=files)


def _problems(tree: Tree, cluster: str | None, today: str) -> Iterable[Problem]:
    chosen = _chosen(tree, cluster)
    found = sorted({*tree.problems, *check(tree, chosen, today=today)})
    return (problem for problem in found if chosen is None or concerns(problem, chosen))


def _chosen(tree: Tree, cluster: str | None) -> str | None:
    """The name to check for: None for all clusters, "" where the repository is one.

    Raises:
        Failure: there is no such cluster.
    """
    if cluster is None:
        return None
    names = cluster_names(tree)
    declared = [document.name for document in tree.of_kind("Cluster") if not document.cluster]
    known = names or tuple(declared)
    broken = any(problem.mark.file.startswith(f"clusters/{cluster}/") for problem in tree.problems)
    if cluster in names or broken:
        return cluster
    if cluster in declared or not known:
        return ""
    raise Failure(f"no cluster {cluster!r} here; there are: {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class OneFile(WithoutHistory):
    """A single file as a source: the smallest fleet is one."""

    path: Path

    def revision(self) -> str:
        return "file"

    def files(self, revision: str) -> tuple[File, ...]:
        del revision
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise SourceError(SourceReason.UNAVAILABLE, f"{self.path}: {error.strerror}") from error
        check_size(self.path.name, len(data), files=1, total_bytes=len(data))
        return (File(path=self.path.name, blob=blob_id(data), data=data),)


def _source(path: Path) -> Source:
    return DirectorySource(path) if path.is_dir() else OneFile(path=path)


def _shown(path: Path, file: str) -> str:
    """A file's path as somebody in the current directory would type it."""
    if not path.is_dir() or file == ".":
        return str(path)
    return (path / file).as_posix()


def _seen_from_here(path: Path, problem: Problem) -> Problem:
    return replace(problem, mark=replace(problem.mark, file=_shown(path, problem.mark.file)))


def _colours(choice: str) -> bool:
    return choice == "always" or (choice == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
