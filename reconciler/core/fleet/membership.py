"""Rules on nodes: in which pool they are, which ones are named, which ones are held."""

from collections.abc import Iterator

from reconciler.core.fleet.documents import Document, Mark, Path, Problem, Severity
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.scopes import Scope
from schema.names import DRIVER_GROUP


def one_pool_each(scope: Scope) -> Iterator[Problem]:
    """By the names in pools; with an Inventory, by labels too."""
    pools = {document.name: document for document in scope.documents("NodePool")}
    for node, names in scope.desired.contested.items():
        first, *others = sorted(
            {pools[name].mark: pools[name] for name in names}.values(), key=lambda d: d.mark
        )
        for other in others:
            where = _membership(first, node)
            yield Problem(
                mark=_membership(other, node),
                code=Code.TWO_POOLS,
                message=f"node {node} is in pools {first.name} ({where.file}:{where.line}) and {other.name}",
                hint="a node belongs to one pool",
            )


def all_assigned(scope: Scope) -> Iterator[Problem]:
    """Under `unassigned: error`, a node with a card is in a pool."""
    wanted = scope.shared.value("unassigned", default="ignore") == "error"
    if not wanted or not scope.has_inventory or scope.may_be_missing("NodePool"):
        return
    places = _entries(scope)
    for node in scope.desired.unassigned:
        message = f"node {node} has a card and is in no pool"
        hint = "give it to a pool, or say unassigned: ignore"
        yield Problem(mark=places[node], code=Code.UNASSIGNED, message=message, hint=hint)


def listed_once(scope: Scope) -> Iterator[Problem]:
    """Node names are unique in a cluster's Inventory."""
    for inventory in scope.documents("Inventory"):
        seen: set[str] = set()
        for index, entry in enumerate(inventory.spec["nodes"]):
            if entry["name"] in seen:
                mark = inventory.mark_at("spec", "nodes", index, "name")
                message = f"node {entry['name']} is in the Inventory twice"
                yield Problem(
                    mark=mark, code=Code.REPEATED_NODE, message=message, hint="write the Inventory anew"
                )
            seen.add(entry["name"])


def named_nodes_exist(scope: Scope) -> Iterator[Problem]:
    """A name that the Inventory does not have is mistyped or not there yet: a warning."""
    if not scope.has_inventory:
        return
    for mark, node in _named(scope):
        if node not in scope.machines:
            yield Problem(
                mark=mark,
                code=Code.UNKNOWN_NODE,
                message=f"node {node} is not in the Inventory",
                hint="correct the name, or write the Inventory anew",
                severity=Severity.WARNING,
            )


def hostnames_differ(scope: Scope) -> Iterator[Problem]:
    """Two nodes with one hostname label cannot be told apart by a policy."""
    yield from (problem for problem in scope.desired.problems if problem.code == Code.SHARED_HOSTNAME)


def labels_last(scope: Scope) -> Iterator[Problem]:
    """Selectors on labels that the driver's installation writes would move nodes in mid-upgrade."""
    for pool in scope.documents("NodePool"):
        for path, key in _selected(pool):
            if key.startswith(f"{DRIVER_GROUP}/"):
                yield Problem(
                    mark=pool.mark_at("spec", "selector", *path),
                    code=Code.DRIVER_LABEL,
                    message=f"label {key} changes during an upgrade: the node would leave pool {pool.name}",
                    hint="select by a label of your own, or by name",
                )


def holds_have_reasons(scope: Scope) -> Iterator[Problem]:
    for node in scope.documents("Node"):
        if node.spec.get("hold") and not node.spec.get("reason"):
            yield Problem(
                mark=node.mark_at("spec", "hold"),
                code=Code.HOLD_WITHOUT_REASON,
                message=f"node {node.name} is held without a reason",
                hint="add reason: whoever finds it next year wants to know",
            )


def reviews_are_ahead(scope: Scope) -> Iterator[Problem]:
    """Only a commit invalidates a commit: a day that has come is a warning."""
    for node in scope.documents("Node"):
        day = node.spec.get("reviewBy", "")
        if scope.today and day and day <= scope.today:
            yield Problem(
                mark=node.mark_at("spec", "reviewBy"),
                code=Code.REVIEW_DUE,
                message=f"node {node.name} was to be reviewed by {day}",
                hint="release it, or set another day",
                severity=Severity.WARNING,
            )


def _selected(pool: Document) -> Iterator[tuple[Path, str]]:
    """Every label key of a pool's selector, with its path below it."""
    selector = pool.spec.get("selector", {})
    for key in selector.get("matchLabels", {}):
        yield ("matchLabels", key), key
    for index, requirement in enumerate(selector.get("matchExpressions", ())):
        yield ("matchExpressions", index, "key"), requirement["key"]


def _membership(pool: Document, node: str) -> Mark:
    """The line that puts a node into a pool."""
    nodes = pool.spec.get("nodes")
    return pool.mark_at("spec", "nodes", nodes.index(node)) if nodes else pool.mark_at("spec", "selector")


def _entries(scope: Scope) -> dict[str, Mark]:
    """Where the Inventory lists each node."""
    return {
        entry["name"]: inventory.mark_at("spec", "nodes", index, "name")
        for inventory in scope.documents("Inventory")
        for index, entry in enumerate(inventory.spec["nodes"])
    }


def _named(scope: Scope) -> Iterator[tuple[Mark, str]]:
    """Nodes that the cluster's own documents name; a shared pool may name another cluster's."""
    for pool in scope.documents("NodePool"):
        if pool.cluster == scope.cluster:
            for index, node in enumerate(pool.spec.get("nodes", ())):
                yield pool.mark_at("spec", "nodes", index), node
    for document in scope.documents("Node"):
        yield document.mark_at("metadata", "name"), document.name


RULES = (
    one_pool_each,
    all_assigned,
    listed_once,
    named_nodes_exist,
    hostnames_differ,
    labels_last,
    holds_have_reasons,
    reviews_are_ahead,
)
