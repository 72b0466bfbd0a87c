"""The other end of `HollowControl`, inside the hollow process."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Mapping
from typing import Any, Self

from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.kubelet.control import short_path
from reconciler.sandbox.kubelet.node import HollowNode, RegisterError
from reconciler.sandbox.kubelet.nodes import HollowNodes


class ControlServer:
    """Listens in the hosts directory, and does what it is told."""

    def __init__(self, nodes: HollowNodes) -> None:
        self._nodes = nodes
        self._server: asyncio.Server | None = None
        self._turns: dict[str, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        with short_path(self._nodes.directory) as path:
            path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, path)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        with short_path(self._nodes.directory) as path:
            path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = json.loads(await reader.readline())
            answer = {"result": await self._act(asked)}
        except (SandboxError, RegisterError, ValueError, KeyError) as error:
            answer = {"error": str(error)}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _act(self, asked: Mapping[str, Any]) -> Any:
        if asked["verb"] == "list":
            return {name: node.up for name, node in sorted(self._nodes.nodes.items())}
        node = self._nodes.node(asked["node"])
        async with self._turns.setdefault(
            node.spec.name, asyncio.Lock()
        ):  # a reboot is not half over for others
            await _verb(node, asked)
        return None


def _verb(node: HollowNode, asked: Mapping[str, Any]) -> Awaitable[None]:
    match asked["verb"]:
        case "reboot":
            return node.reboot(float(asked.get("down_s", 1.0)))
        case "power-off":
            return node.power_off()
        case "vanish":
            return node.vanish()
        case "return":
            return node.come_back()
        case verb:
            raise ValueError(f"hollow nodes do not know {verb!r}")
