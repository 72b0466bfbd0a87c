"""Shapes: does a value that was read from JSON have the types that its dataclass declares?

`from_json` takes what is there. A number where a decision expects a text would raise in the middle of a tick, and one
node's annotation would stop the operator for all (S9): here it becomes a fault of that node.
"""

from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints


def misfit(value: object, kind: Any) -> str:
    """Where and what does not fit, `latest.attempts: '2'`; "" when all does.

    Args:
        value: whatever it is.
        kind: a dataclass, tuple[...], union, enum or plain type. An int is a float, a bool is no number.
    """
    origin = get_origin(kind)
    if origin is UnionType:
        return _shortest(value, get_args(kind))
    if origin is tuple:
        return _tuple(value, get_args(kind))
    if is_dataclass(kind) and type(value) is kind:
        return _fields(value, kind)
    fits = isinstance(value, (int, float) if kind is float else kind)
    if isinstance(value, bool) and kind is not bool:
        fits = False
    return "" if fits else f": {value!r:.60}"


def _shortest(value: object, kinds: tuple[Any, ...]) -> str:
    """Nothing if one of them fits; else what the one says that came furthest."""
    found = [misfit(value, kind) for kind in kinds]
    return "" if "" in found else max(found, key=lambda said: len(said.partition(":")[0]))


def _tuple(value: object, kinds: tuple[Any, ...]) -> str:
    if not isinstance(value, tuple):
        return f": {value!r:.60}"
    each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    if len(each) != len(value):
        return f": {value!r:.60}"
    for place, (item, inner) in enumerate(zip(value, each, strict=True)):
        if said := misfit(item, inner):
            return _below(str(place), said)
    return ""


def _fields(value: object, kind: Any) -> str:
    for name, hint in _hints(kind):
        if said := misfit(getattr(value, name), hint):
            return _below(name, said)
    return ""


def _below(name: str, said: str) -> str:
    return f"{name}{said}" if said.startswith(":") else f"{name}.{said}"


@cache
def _hints(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(get_type_hints(kind).items())
