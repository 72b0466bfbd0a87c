"""The operator's tick: look and decide, for a cluster at rest, and after one node has changed."""

from collections.abc import Iterator

from cluster import NOW, look, raw_node, raw_pod, server_at_rest
from pairs import Pair, Side

from reconciler.core.node.operate import operate
from reconciler.operator.server import Server
from schema.names import LABEL_SKIP


def pairs(size: int) -> Iterator[Pair]:
    server, small = server_at_rest(size), server_at_rest(max(1, size // 10))
    versions = iter(range(2000, 1_000_000))

    def busy_pod() -> None:
        version = next(versions)
        server.pods.store.event("MODIFIED", raw_pod(0, 0, resource_version=version))

    def busy_node() -> None:
        version = next(versions)
        server.nodes.store.event("MODIFIED", raw_node(0, resource_version=version, **{LABEL_SKIP: "true"}))

    def idle_node() -> None:
        server.nodes.store.event("MODIFIED", raw_node(0, resource_version=next(versions)))

    yield Pair(
        name="tick-size",
        a=Side(label=f"idle tick, {size} nodes", run=lambda: tick(server)),
        b=Side(label=f"idle tick, {size // 10} nodes", run=lambda: tick(small)),
    )
    yield Pair(
        name="tick-pod",
        a=Side(label="tick after one pod changed", run=lambda: tick(server), before=busy_pod),
        b=Side(label="idle tick", run=lambda: tick(server)),
    )
    yield Pair(
        name="tick-node",
        a=Side(label="tick after one node changed", run=lambda: tick(server), before=busy_node),
        b=Side(label="idle tick", run=lambda: tick(server), before=idle_node),
    )


def tick(server: Server) -> int:
    return len(operate(look(server), NOW).actions)
