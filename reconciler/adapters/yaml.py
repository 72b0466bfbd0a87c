"""YAML and JSON files as plain values, every value with its place and the numbers with their source text.

Read from the *events* of ruamel's C parser: anchors, aliases, tags and quoting are visible only there, and its `load`
crashes on deep nesting. What we read is a small YAML 1.2: maps, lists, scalars. Everything else is a problem that says what
to write instead; reading goes on where it can, so that all problems show at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import events
from ruamel.yaml.cyaml import CParser
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from reconciler.adapters.scalars import plain_value
from reconciler.adapters.text import Text, read_text
from reconciler.core.fleet.documents import Mark, Path, Problem
from reconciler.core.fleet.problems import Code

MAX_DEPTH: Final = 20  # the deepest field of a fleet document lies at 8

_TEMPLATES: Final = "templates ({{ }}) are not expanded; keep here what they give"
_ADVICE: Final[tuple[tuple[str, str], ...]] = (
    ("tab character", "a tab indents this line; YAML indents with spaces"),
    ("mapping values are not allowed", "a second ': ' on one line; quote the value, or indent it on lines of its own"),
    ("could not find expected ':'", "a key without ': ' behind it"),
    ("did not find expected key", "the indentation does not match the lines above"),
    ("did not find expected '-' indicator", "the indentation does not match the list above"),
    ("did not find expected ',' or ']'", "a list in [ ] is not closed, or a comma is missing"),
    ("did not find expected ',' or '}'", "a map in { } is not closed, or a comma is missing"),
    ("found unexpected ':'", "inside { } and [ ] a text with ':' needs quotes"),
    ("found unexpected end of stream", "a quoted text is not closed"),
    ("found unexpected document indicator", "a quoted text is not closed"),
    ("did not find expected <document start>", "something stands before this that ends the document; is the indentation right?"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """One document.

    Attributes:
        data: maps, lists, strings, numbers, booleans, None.
        keys: place of every entry by its path: of a map entry its key, of a list item the item.
        values: place of every value by its path.
        tokens: source text of every plain scalar that is not a string, by its path.
        broken: paths whose value could not be read; what lies there must not be judged.
        partial: paths of maps with a key that could not be read; what seems missing there may be under it.
    """

    data: Any
    keys: Mapping[Path, Mark]
    values: Mapping[Path, Mark]
    tokens: Mapping[Path, str]
    broken: frozenset[Path]
    partial: frozenset[Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parse:
    """What a file gave. `complete` is False where the parser stopped before the file's end."""

    documents: tuple[Parsed, ...] = ()
    problems: tuple[Problem, ...] = ()
    complete: bool = True


def parse(file: str, data: bytes) -> Parse:
    """Read all documents of a file; never raises for what is in it. Empty documents are left out."""
    text, problems = read_text(file, data)
    if text is None:
        return Parse(problems=tuple(problems), complete=False)
    documents: list[Parsed] = []
    try:
        # what came before an error stays
        documents.extend(
            builder.done() for builder in _Reader(text, problems).documents() if builder.data is not None
        )
    except YAMLError as error:
        problems.append(_syntax(error, text))
        return Parse(documents=tuple(documents), problems=tuple(problems), complete=False)
    except _TooDeepError as error:
        message = f"more than {MAX_DEPTH} maps and lists inside each other"
        problems.append(Problem(mark=error.mark, code=Code.TOO_DEEP, message=message))
        return Parse(documents=tuple(documents), problems=tuple(problems), complete=False)
    return Parse(documents=tuple(documents), problems=tuple(problems))


class _TooDeepError(Exception):
    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark


@dataclass
class _Builder:
    """A document in the making."""

    data: Any = None
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    tokens: dict[Path, str] = field(default_factory=dict)
    broken: set[Path] = field(default_factory=set)
    partial: set[Path] = field(default_factory=set)

    def done(self) -> Parsed:
        return Parsed(
            data=self.data,
            keys=self.keys,
            values=self.values,
            tokens=self.tokens,
            broken=frozenset(self.broken),
            partial=frozenset(self.partial),
        )


class _Reader:
    """Turns events into documents. A path of None reads a value that nobody keeps, for the problems in it."""

    def __init__(self, text: Text, problems: list[Problem]) -> None:
        self.text = text
        self.problems = problems
        self.parser = CParser(text.data)
        self.builder = _Builder()

    def documents(self) -> Iterator[_Builder]:
        while (event := self.next()) is not None:
            if isinstance(event, events.DocumentStartEvent):
                if event.version or event.tags:
                    self.report(event, Code.DIRECTIVE, "a % directive is not read", "remove it")
                self.builder = _Builder()
                self.builder.data = self.value(self.next(), (), depth=0)
                yield self.builder

    def next(self) -> Any:
        return self.parser.get_event()

    def value(self, event: Any, path: Path | None, *, depth: int) -> Any:
        """The value that begins with `event`; reads up to its end."""
        mark = self.mark(event)
        if depth > MAX_DEPTH:
            raise _TooDeepError(mark)
        if path is not None:
            self.builder.values[path] = mark
            self.builder.keys.setdefault(path, mark)
        self.refuse_properties(event, path)
        if isinstance(event, events.MappingStartEvent):
            return self.mapping(path, depth=depth)
        if isinstance(event, events.SequenceStartEvent):
            return self.sequence(path, depth=depth)
        return self.scalar(event, path)

    def mapping(self, path: Path | None, *, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        first: dict[str, Mark] = {}
        while not isinstance(event := self.next(), events.MappingEndEvent):
            key = self.key(event, depth=depth)
            inner = None if path is None or key is None or key in first else (*path, key)
            if key in first:
                message = f"key {_short(key)} is there twice; the first is at line {first[key].line}"
                self.report(event, Code.DUPLICATE_KEY, message, "remove one of them")
            if key is None and path is not None:
                self.builder.partial.add(path)
            if key is not None and key not in first:
                first[key] = self.mark(event)
                if inner is not None:
                    self.builder.keys[inner] = first[key]
            value = self.value(self.next(), inner, depth=depth + 1)
            if inner is not None and key is not None:
                result[key] = value
        return result

    def sequence(self, path: Path | None, *, depth: int) -> list[Any]:
        result: list[Any] = []
        while not isinstance(event := self.next(), events.SequenceEndEvent):
            inner = None if path is None else (*path, len(result))
            result.append(self.value(event, inner, depth=depth + 1))
        return result

    def key(self, event: Any, *, depth: int) -> str | None:
        """A map's key; None (with a problem) for what is no plain text."""
        self.refuse_properties(event, None)
        if not isinstance(event, events.ScalarEvent):
            if not isinstance(event, events.AliasEvent):
                template = self.text.holds("{{", event.start_mark.line)
                hint = _TEMPLATES if template else "keys are texts"
                self.report(event, Code.ODD_KEY, "a map or list cannot be a key", hint)
            self.skip(event, depth=depth)
            return None
        if event.value == "<<" and not event.style:
            self.report(event, Code.MERGE_KEY, "merge keys (<<) are not read", "write the fields out")
            return None
        if not event.style and not isinstance(plain_value(event.value), str):
            self.report(
                event,
                Code.ODD_KEY,
                f"{_short(event.value) or 'nothing'} as a key",
                f'quote it: "{_short(event.value)}"',
            )
            return None
        return str(event.value)

    def skip(self, event: Any, *, depth: int) -> None:
        """Read past a map or list that stands where a key should."""
        if isinstance(event, events.MappingStartEvent):
            self.mapping(None, depth=self._deeper(event, depth))
        elif isinstance(event, events.SequenceStartEvent):
            self.sequence(None, depth=self._deeper(event, depth))

    def _deeper(self, event: Any, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise _TooDeepError(self.mark(event))
        return depth + 1

    def scalar(self, event: Any, path: Path | None) -> Any:
        if isinstance(event, events.AliasEvent):
            return None
        if event.style:
            return event.value
        value = plain_value(event.value)
        if path is not None and not isinstance(value, str):
            self.builder.tokens[path] = event.value
        return value

    def refuse_properties(self, event: Any, path: Path | None) -> None:
        """Anchors, aliases, tags."""
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if isinstance(event, events.AliasEvent):
            self.report(event, Code.ANCHOR, f"alias *{_short(anchor)} is not read", "write the value out")
        elif anchor:
            self.report(
                event,
                Code.ANCHOR,
                f"anchor &{_short(anchor)} is not read",
                "remove it, and write the value out where it is used",
            )
        if tag:
            self.report(
                event, Code.TAG, f"tag {_short(_tag(tag))} is not read", "remove it; a text is quoted"
            )
        if path is not None and (tag or isinstance(event, events.AliasEvent)):
            self.builder.broken.add(path)

    def mark(self, event: Any) -> Mark:
        return self.text.mark(event.start_mark.line, event.start_mark.column)

    def report(self, event: Any, code: Code, message: str, hint: str = "") -> None:
        self.problems.append(Problem(mark=self.mark(event), code=code, message=message, hint=hint))


def _tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")


def _short(text: str | None) -> str:
    """Untrusted text for a message: one line, bounded."""
    shown = re.sub(r"\s+", " ", text or "")
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def _syntax(error: YAMLError, text: Text) -> Problem:
    """The parser's own complaint, in words that help."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Problem(mark=text.mark(0, 0), code=Code.SYNTAX, message=f"no YAML: {error}")
    at = error.problem_mark
    said = str(error.problem)
    begun = error.context_mark
    elsewhere = begun is not None and begun.line not in {at.line, len(text.lines)}
    where = f", {error.context} that begins at line {begun.line + 1}" if elsewhere and error.context else ""
    if said == "found character that cannot start any token" and text.at(at.line, at.column) == "\t":
        said = "found a tab character"
    advice = next((advice for part, advice in _ADVICE if part in said), "")
    if text.holds("{{", at.line):
        advice = _TEMPLATES
    return Problem(
        mark=text.mark(at.line, at.column), code=Code.SYNTAX, message=f"no YAML: {said}{where}", hint=advice
    )
