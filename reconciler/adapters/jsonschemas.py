"""Documents against schema/fleet/*.schema.json: compiled once, each fault in words and at its place.

The schemas say in `x-allowed` what a value may be and in `x-rule` what an object as a whole has to keep, so that no message
shows a regular expression or "is not valid under any of the given schemas".
"""

import difflib
import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from typing import Any, Final

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend
from referencing import Registry, Resource

from reconciler.adapters.yaml import Parsed
from reconciler.core.fleet.documents import Mark, Path, Problem
from reconciler.core.fleet.problems import Code

KINDS: Final = ("Fleet", "Cluster", "NodePool", "Node", "Release", "Inventory")
_SHARED: Final = "fields"
_ABSENCES: Final = frozenset({"required", "oneOf", "minProperties"})
_TYPES: Final = {
    "object": "a map",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
}
_VERSIONS: Final = "versions are x.y.z in quotes"
_YAML_1_1_BOOLEANS: Final = frozenset({"on", "off", "yes", "no", "y", "n"})


def faults(kind: str, document: Parsed) -> tuple[Problem, ...]:
    """Everything in which a document differs from the schema of its kind."""
    errors = [error for error in _validator(kind).iter_errors(document.data) if _counts(error, document)]
    mistyped = {tuple(error.absolute_path) for error in errors if error.validator == "type"}
    found: list[Problem] = []
    for error in errors:
        path: Path = tuple(error.absolute_path)
        if error.validator == "type" or path not in mistyped:
            found.extend(problem for problem in _explain(error, path, document) if problem not in found)
    return tuple(found)


def _counts(error: ValidationError, document: Parsed) -> bool:
    """Whether an error is more than the consequence of something that could not be read."""
    path: Path = tuple(error.absolute_path)
    if any(path[: len(broken)] == broken for broken in document.broken):
        return False
    return path not in document.partial or error.validator not in _ABSENCES


@functools.cache
def schema(name: str) -> Mapping[str, Any]:
    """A schema by lower-case kind, or `fields` for what they share."""
    text = files("schema").joinpath("fleet", f"{name}.schema.json").read_text(encoding="utf-8")
    data: Mapping[str, Any] = json.loads(text)
    return data


@functools.cache
def _validator(kind: str) -> Validator:
    shared = Resource.from_contents(schema(_SHARED))
    registry: Registry[Any] = Registry().with_resource(schema(_SHARED)["$id"], shared)
    return _strict()(schema(kind.lower()), registry=registry)


@functools.cache
def _strict() -> type[Validator]:
    """Draft 2020-12, but 1.0 is no whole number and `$` does not match before a newline."""
    checker = Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    strict: type[Validator] = extend(  # type: ignore[no-untyped-call]  # the stubs leave it open
        Draft202012Validator, {"pattern": _pattern}, type_checker=checker
    )
    return strict


def _pattern(_: Validator, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not re.fullmatch(pattern, instance):
        yield ValidationError("pattern")


def _explain(error: ValidationError, path: Path, document: Parsed) -> Iterator[Problem]:
    if "propertyNames" in error.absolute_schema_path:
        yield _bad_key(error, path, document)
        return
    match error.validator:
        case "additionalProperties":
            yield from _unknown_fields(error, path, document)
        case "required" if "x-rule" not in _rule(error) or "properties" in _rule(error):
            yield from _missing_fields(error, path, document)
        case "uniqueItems":
            yield from _repeated(error, path, document)
        case "oneOf" | "not" | "required":
            yield _broken_rule(error, path, document)
        case _:
            yield _bad_value(error, path, document)


def _rule(error: ValidationError) -> Mapping[str, Any]:
    """The (sub)schema that was not kept."""
    return error.schema if isinstance(error.schema, Mapping) else {}


def _said(error: ValidationError) -> Any:
    """The value of the keyword that was not kept."""
    return error.validator_value


def _found(error: ValidationError) -> Any:
    """The value that does not keep it."""
    return error.instance


def _unknown_fields(error: ValidationError, path: Path, document: Parsed) -> Iterator[Problem]:
    known = sorted(_rule(error).get("properties", {}))
    for key in _found(error):
        if key not in known:
            where = _named(path)
            yield Problem(
                mark=_key_mark(document, (*path, key)),
                code=Code.UNKNOWN_FIELD,
                message=f"unknown field {_quoted(key)}{f' in {where}' if where else ''}",
                hint=did_you_mean(key, known),
            )


def _missing_fields(error: ValidationError, path: Path, document: Parsed) -> Iterator[Problem]:
    where = _named(path) or "the document"
    for key in _said(error):
        if key not in _found(error):
            yield Problem(
                mark=_key_mark(document, path),
                code=Code.MISSING_FIELD,
                message=f"{where} has no {_quoted(key)}",
                hint=f"add {key}",
            )


def _repeated(error: ValidationError, path: Path, document: Parsed) -> Iterator[Problem]:
    for index, entry in enumerate(_found(error)):
        if entry in _found(error)[:index]:
            yield Problem(
                mark=_key_mark(document, (*path, index)),
                code=Code.NOT_ALLOWED,
                message=f"{_shown(entry, None)} is in {_named(path)} twice",
                hint="remove one of them",
            )


def _broken_rule(error: ValidationError, path: Path, document: Parsed) -> Problem:
    keys = sorted(re.findall(r"\w+", json.dumps(_said(error))))
    there = [key for key in _found(error) if key in keys]
    lacks = "has neither" if error.validator == "oneOf" else "is incomplete"
    said = f"has {' and '.join(there)}" if there else lacks
    mark = _key_mark(document, (*path, there[-1]) if there else path)
    return Problem(
        mark=mark,
        code=Code.COMBINATION,
        message=f"{_named(path) or 'the document'} {said}",
        hint=_rule(error).get("x-rule", ""),
    )


def _bad_key(error: ValidationError, path: Path, document: Parsed) -> Problem:
    key = str(error.instance)
    allowed = _rule(error).get("x-allowed", "another name")
    return Problem(
        mark=_key_mark(document, (*path, key)),
        code=Code.NOT_ALLOWED,
        message=f"{_quoted(key)} is no key of {_named(path)}",
        hint=f"allowed: {allowed}",
    )


def _bad_value(error: ValidationError, path: Path, document: Parsed) -> Problem:
    token = document.tokens.get(path)
    mark = document.values.get(path) or _key_mark(document, path)
    if error.instance is None:
        hint = f"remove the line, or say {_allowed(error)}" if path else ""
        return Problem(mark=mark, code=Code.NULL, message=f"{_named(path)} is empty (null)", hint=hint)
    if token is not None and _wants_text(error):
        return _unquoted(error, path, token, mark)
    shown = _shown(error.instance, token)
    if _rule(error).get("x-version"):
        message = f"{_named(path)}: {shown} is not a version"
        return Problem(mark=mark, code=Code.NO_VERSION_TEXT, message=message, hint=_VERSIONS)
    code = Code.WRONG_TYPE if error.validator == "type" else Code.NOT_ALLOWED
    return Problem(mark=mark, code=code, message=f"{_named(path)} cannot be {shown}", hint=_hint(error))


def _unquoted(error: ValidationError, path: Path, token: str, mark: Mark) -> Problem:
    """A number or a boolean where a text belongs: the source token is what the author meant."""
    what = "true or false" if token.lower() in {"true", "false"} else "a number"
    if _rule(error).get("x-version"):
        return Problem(
            mark=mark,
            code=Code.NO_VERSION_TEXT,
            message=f"{_named(path)}: {token} without quotes is {what}, not a version",
            hint=_VERSIONS,
        )
    return Problem(
        mark=mark,
        code=Code.WRONG_TYPE,
        message=f"{_named(path)}: {token} without quotes is {what}, not a text",
        hint=f'write "{token}"',
    )


def _wants_text(error: ValidationError) -> bool:
    return error.validator == "type" and _said(error) == "string"


def _hint(error: ValidationError) -> str:
    if error.validator == "enum" and isinstance(error.instance, str):
        return did_you_mean(error.instance, _said(error))
    old_boolean = isinstance(error.instance, str) and error.instance.lower() in _YAML_1_1_BOOLEANS
    if old_boolean and error.validator == "type":
        return f"{error.instance} is a text in YAML 1.2; allowed: {_allowed(error)}"
    return f"allowed: {_allowed(error)}"


def _allowed(error: ValidationError) -> str:
    """What the schema admits, in words."""
    rule = _rule(error)
    if "x-allowed" in rule:
        return str(rule["x-allowed"])
    if "enum" in rule:
        return " or ".join(rule["enum"])
    if "const" in rule:
        return str(rule["const"])
    if error.validator in {"minItems", "minProperties"}:
        return "at least one entry"
    if error.validator == "maxItems":
        return f"at most {_said(error)} entries"
    return _TYPES.get(rule.get("type", ""), "another value")


def _shown(value: Any, token: str | None) -> str:
    """A value for a message: as typed, one line, bounded."""
    match value:
        case dict() | list() if not value:
            return "empty"
        case dict():
            return "a map"
        case list():
            return "a list"
        case str():
            return _quoted(value) if value else "an empty text"
        case _:
            return token or str(value)


def _quoted(text: str) -> str:
    shown = json.dumps(text, ensure_ascii=not text.isprintable())
    return shown if len(shown) <= 60 else f'{shown[:56]}..."'


def _named(path: Path) -> str:
    """A path as people write it: `spec.waves[1].count`."""
    shown = ""
    for part in path:
        key = str(part)
        plain = re.fullmatch(r"[A-Za-z0-9_-]{1,40}", key)
        shown += f"[{part}]" if isinstance(part, int) else f".{key}" if plain else f"[{_quoted(key)}]"
    return shown.removeprefix(".")


def _key_mark(document: Parsed, path: Path) -> Mark:
    """Place of the entry at `path`, or of the nearest one around it."""
    return next(document.keys[path[:end]] for end in range(len(path), -1, -1) if path[:end] in document.keys)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word, or all of them."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.7)
    if close:
        return f"did you mean {lower[close[0]]}?"
    return f"allowed: {', '.join(names)}" if names else "remove it"
