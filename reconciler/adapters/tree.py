"""A source's files as one Tree of documents that have passed their schemas, and every problem on the way.

The kind decides what a document is, not its path; the path says only which cluster it belongs to (`clusters/<name>/`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from reconciler.adapters.jsonschemas import KINDS, did_you_mean, faults
from reconciler.adapters.source import File, Source
from reconciler.adapters.yaml import Parsed, parse
from reconciler.core.fleet.documents import Document, Mark, Problem, Tree
from reconciler.core.fleet.problems import Code
from schema.names import FLEET_API_VERSION

CLUSTERS: Final = "clusters"
MAX_PROBLEMS: Final = 50  # of one file; a mangled file would hide all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one file gave."""

    documents: tuple[Document, ...] = ()
    problems: tuple[Problem, ...] = ()
    faulty: frozenset[tuple[str, str]] = frozenset()
    complete: bool = True


@dataclass
class Readings:
    """Files of the tree before, by path and blob id: reading a commit costs what it changed."""

    known: dict[tuple[str, str], Reading] = field(default_factory=dict)

    def of(self, files: Iterable[File]) -> tuple[Reading, ...]:
        """Every file's reading, in order; what is no longer there is forgotten."""
        now: dict[tuple[str, str], Reading] = {}
        for file in files:
            key = (file.path, file.blob)
            now[key] = self.known.get(key) or read_file(file)
        self.known = now
        return tuple(now.values())


def load_tree(source: Source, revision: str, readings: Readings | None = None) -> Tree:
    """Read one revision whole. Faults in files are the tree's `problems`.

    Args:
        source: where the files are.
        revision: one that `source` has named.
        readings: keep it between calls, and only files that changed are read again.

    Raises:
        SourceError: the source cannot be read, or holds what we do not follow.
    """
    read = (readings or Readings()).of(source.files(revision))
    documents = tuple(document for reading in read for document in reading.documents)
    problems = [problem for reading in read for problem in reading.problems]
    if not documents and not problems:
        message = "there is no fleet document here"
        hint = "a fleet is at least one NodePool and one Release, in files that end in .yaml"
        problems.append(Problem(mark=Mark(file="."), code=Code.EMPTY, message=message, hint=hint))
    return Tree(
        revision=revision,
        documents=documents,
        problems=tuple(sorted(_with_releases(problems, documents))),
        faulty=frozenset().union(*(reading.faulty for reading in read)),
        complete=all(reading.complete for reading in read),
    )


def read_file(file: File) -> Reading:
    """Parse a file and hold its documents against their schemas."""
    parsed = parse(file.path, file.data)
    documents: list[Document] = []
    problems = list(parsed.problems)
    faulty = set()
    complete = parsed.complete
    for document in parsed.documents:
        kind, found = _kind(document)
        found += faults(kind, document) if kind else ()
        problems += found
        if not kind:
            complete = False
        elif found or document.broken or document.partial:
            faulty.add((kind, _name(document.data)))
        else:
            documents.append(_document(kind, file.path, document))
    return Reading(
        documents=tuple(documents),
        problems=tuple(_at_most(problems)),
        faulty=frozenset(faulty),
        complete=complete,
    )


def cluster_of(path: str) -> str:
    """The cluster that a file belongs to, "" for all of them."""
    parts = path.split("/")
    return parts[1] if parts[0] == CLUSTERS and len(parts) > 2 else ""


def _document(kind: str, path: str, document: Parsed) -> Document:
    return Document(
        kind=kind,
        name=document.data["metadata"]["name"],
        cluster=cluster_of(path),
        mark=document.keys[()],
        data=document.data,
        marks=document.keys,
    )


def _kind(document: Parsed) -> tuple[str, tuple[Problem, ...]]:
    """The kind, "" where the document is none of ours; and what is wrong about it."""
    data, mark = document.data, document.keys[()]
    if not isinstance(data, dict):
        return "", (_no_document(mark, "this is no map"),)
    if "kind" not in data and "apiVersion" not in data:
        return "", (_no_document(mark, "a document without apiVersion and kind"),)
    kind = data.get("kind")
    if "kind" in data and (not isinstance(kind, str) or kind not in KINDS):
        return "", (_unknown(document, "kind", Code.UNKNOWN_KIND, did_you_mean(str(kind), KINDS)),)
    version = data.get("apiVersion")
    if "apiVersion" in data and version != FLEET_API_VERSION:
        found = _unknown(document, "apiVersion", Code.UNKNOWN_API_VERSION, f"write {FLEET_API_VERSION}")
        return "", (found,)
    if not kind:
        message, hint = "the document has no kind", f"one of {', '.join(KINDS)}"
        return "", (Problem(mark=mark, code=Code.MISSING_FIELD, message=message, hint=hint),)
    return str(kind), ()


def _no_document(mark: Mark, what: str) -> Problem:
    hint = "a fleet repository holds fleet documents only; keep other YAML and JSON files elsewhere"
    return Problem(mark=mark, code=Code.NO_DOCUMENT, message=f"no fleet document: {what}", hint=hint)


def _unknown(document: Parsed, key: str, code: Code, hint: str) -> Problem:
    value = document.data[key]
    shown = repr(value[:60]) if isinstance(value, str) else document.tokens.get((key,), "something else")
    mark = document.values[key,]
    return Problem(mark=mark, code=code, message=f"unknown {key} {shown}", hint=hint)


def _name(data: Any) -> str:
    metadata = data.get("metadata") if isinstance(data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) else ""


def _with_releases(problems: list[Problem], documents: tuple[Document, ...]) -> Iterator[Problem]:
    """Problems with a version say which versions there are; only the whole tree knows them."""
    known = sorted(document.name for document in documents if document.kind == "Release")
    for problem in problems:
        if problem.code == Code.NO_VERSION_TEXT and known:
            yield replace(problem, hint=f"{problem.hint}; Releases here: {', '.join(known)}")
        else:
            yield problem


def _at_most(problems: list[Problem]) -> Iterator[Problem]:
    """The first problems of a file, and how many more there are."""
    problems = sorted(problems)
    yield from problems[:MAX_PROBLEMS]
    if len(problems) > MAX_PROBLEMS:
        message = f"{len(problems) - MAX_PROBLEMS} more problems from here on"
        yield Problem(mark=problems[MAX_PROBLEMS].mark, code=Code.TOO_MANY, message=message)
