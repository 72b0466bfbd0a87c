"""What the operator knows of a cluster: views are made once per change of an object, a snapshot only hands them out."""

import json
from collections.abc import Iterator

from cluster import PODS_EACH, look, raw_node, raw_pod, server_at_rest
from pairs import Pair, Side

from reconciler.adapters.views import node_view, pod_view


def pairs(size: int) -> Iterator[Pair]:
    server = server_at_rest(size)
    nodes = [raw_node(number) for number in range(size)]
    pods = [raw_pod(node, number) for node in range(size) for number in range(PODS_EACH)]
    served = json.dumps([nodes, pods])

    serials = iter(range(2, 1_000_000))

    def change() -> None:
        serial = next(serials)
        nodes[:] = [raw_node(number, serial=serial) for number in range(size)]

    def views() -> None:
        _ = [node_view(node) for node in nodes], [pod_view(pod) for pod in pods]

    yield Pair(
        name="views",
        a=Side(label=f"{size} nodes, all changed, {len(pods)} pods", run=views, before=change),
        b=Side(label="the same list again", run=views),
    )
    yield Pair(
        name="snapshot",
        a=Side(label="the same list again", run=views),
        b=Side(label="snapshot of the informers", run=lambda: look(server)),
    )
    yield Pair(
        name="decode",
        a=Side(label="json.loads of the same lists", run=lambda: json.loads(served)),
        b=Side(label="their views", run=views),
    )
