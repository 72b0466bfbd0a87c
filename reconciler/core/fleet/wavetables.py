"""Rules on wave tables, and on the names of policies that they give."""

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.core.fleet.documents import Document, Problem
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.render import NAME_LIMIT
from reconciler.core.fleet.resolve import PoolDesired
from reconciler.core.fleet.scopes import Scope
from reconciler.core.fleet.waves import RESERVED, assign

_LAYERS = ("Fleet", "Cluster", "NodePool")


def names_are_free(scope: Scope) -> Iterator[Problem]:
    """A wave's name is used once in its table, and is none of ours."""
    for document, table in _tables(scope):
        seen: set[str] = set()
        for index, wave in enumerate(table):
            name = wave["name"]
            if name in RESERVED:
                yield _at(
                    document,
                    index,
                    "name",
                    Code.RESERVED_WAVE,
                    f"wave {name} is ttfleet's own",
                    "choose another name",
                )
            if name in seen:
                yield _at(
                    document,
                    index,
                    "name",
                    Code.REPEATED_WAVE,
                    f"wave {name} is there twice",
                    "rename one of them",
                )
            seen.add(name)


def last_takes_the_rest(scope: Scope) -> Iterator[Problem]:
    """The last wave takes all remaining nodes; every other one says how many it takes."""
    for document, table in _tables(scope):
        for index, wave in enumerate(table):
            size = next((key for key in ("count", "percent") if key in wave), "")
            last = index == len(table) - 1
            if last and size:
                message = f"the last wave, {wave['name']}, has a {size}; nodes beyond it would never change"
                hint = f"remove {size}, or add a last wave with a name only"
                yield _at(document, index, size, Code.NO_CATCH_ALL, message, hint)
            if not last and not size:
                message = f"wave {wave['name']} takes all remaining nodes and is not the last"
                yield _at(document, index, "name", Code.EARLY_CATCH_ALL, message, "give it count or percent")


def none_is_empty(scope: Scope) -> Iterator[Problem]:
    """Against the Inventory, every wave of a pool with nodes has one; held nodes count, so that a hold is never an error."""
    if not scope.has_inventory:
        return
    for pool in scope.desired.pools:
        waves = assign(pool.name, [node.node for node in pool.nodes], pool.waves)
        for spec in pool.waves if pool.nodes else ():
            if spec.name not in waves.values():
                yield _empty(scope, pool, spec.name)


def names_fit(scope: Scope) -> Iterator[Problem]:
    for pool in scope.desired.pools:
        longest = max((spec.name for spec in pool.waves), key=len)
        name = f"{pool.name}-{longest}"
        if len(name) > NAME_LIMIT:
            document = next(d for d in scope.documents("NodePool") if d.name == pool.name)
            message = f"the policy's name {name} has {len(name)} characters, more than {NAME_LIMIT}"
            mark = document.mark_at("metadata", "name")
            yield Problem(
                mark=mark, code=Code.LONG_NAME, message=message, hint="shorten the pool or the wave"
            )


def _tables(scope: Scope) -> Iterator[tuple[Document, list[Mapping[str, Any]]]]:
    for kind in _LAYERS:
        for document in scope.documents(kind):
            if "waves" in document.spec:
                yield document, document.spec["waves"]


def _empty(scope: Scope, pool: PoolDesired, name: str) -> Problem:
    owner = next(d for d in scope.documents("NodePool") if d.name == pool.name)
    layers = [document for document in (*scope.outer, owner) if "waves" in document.spec]
    index = [spec.name for spec in pool.waves].index(name)
    count = len(pool.nodes)
    nodes = f"{count} node{'s' if count != 1 else ''}"
    return _at(
        layers[-1],
        index,
        "name",
        Code.EMPTY_WAVE,
        f"wave {name} of pool {pool.name} is empty: the waves before it take all {nodes}",
        f"give pool {pool.name} waves of its own, fewer or smaller",
    )


def _at(document: Document, index: int, key: str, code: Code, message: str, hint: str) -> Problem:
    mark = document.mark_at("spec", "waves", index, key)
    return Problem(mark=mark, code=code, message=message, hint=hint)


RULES = (names_are_free, last_takes_the_rest, none_is_empty, names_fit)
