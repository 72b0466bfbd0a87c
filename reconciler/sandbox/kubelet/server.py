"""The kubelet's own port: `containerLogs` over TLS, for the API server only, so that `kubectl logs` works."""

import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from aiohttp import web

from reconciler.sandbox.certificates import Pair
from reconciler.sandbox.kubelet.containers import Container
from reconciler.sandbox.kubelet.logs import LogQuery, read
from reconciler.sandbox.kubelet.machine import HOST_IP
from reconciler.sandbox.kubelet.pods import Pod
from reconciler.sandbox.kubelet.records import Running, Terminated, Waiting
from schema.clock import parse_rfc3339

if TYPE_CHECKING:
    import asyncio

#: groups of a client certificate that may read logs; a real kubelet asks the API server with a SubjectAccessReview
ALLOWED: Final = frozenset({"system:masters"})
END_BOUND_S: Final = 0.5


class LogServer:
    """Serves the logs of one node's pods."""

    def __init__(self, find: Callable[[str, str], Pod | None], context: ssl.SSLContext) -> None:
        self._find = find
        self._context = context
        self._runner: web.AppRunner | None = None
        self._connections: WeakSet[asyncio.Transport] = WeakSet()
        self.port = 0

    async def start(self) -> int:
        """Listen on a free loopback port, or on the same one as before."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        application.router.add_get("/healthz", self._healthy)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=END_BOUND_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST_IP, self.port, ssl_context=self._context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self.port

    async def stop(self) -> None:
        """At once: what still follows a log is cut."""
        for connection in self._connections:
            connection.abort()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        pod = self._find(request.match_info["namespace"], request.match_info["pod"])
        if pod is None:
            raise web.HTTPNotFound(text=f"pod {request.match_info['pod']!r} does not exist")
        name = request.match_info["container"]
        container = next((c for c in pod.containers if c.record.name == name), None)
        if container is None:
            raise web.HTTPNotFound(text=f"container {name!r} not found in pod {pod.key[1]!r}")
        query = _query(request)
        path = _log_of(container, pod.key[1], query)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        number = container.record.restarts

        def live() -> bool:
            return container.running and container.record.restarts == number

        follow = container.log if query.follow and not query.previous else None
        async for chunk in read(path, query, follow, live):
            await response.write(chunk)
        await response.write_eof()
        return response

    async def _healthy(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return web.Response(text="ok")

    def _authorize(self, request: web.Request) -> None:
        if request.transport is None:
            raise web.HTTPForbidden(text="the connection is gone")
        self._connections.add(request.transport)
        certificate = request.transport.get_extra_info("peercert") or {}
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        groups = {value for key, value in subject if key == "organizationName"}
        if not groups & ALLOWED:
            raise web.HTTPForbidden(text="Forbidden (verb=get, resource=nodes, subresource=log)")


def tls(pair: Pair, authority: Path) -> ssl.SSLContext:
    """Serve with `pair`; clients need a certificate of `authority`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority))
    context.verify_mode = ssl.CERT_REQUIRED
    with tempfile.TemporaryDirectory() as directory:  # the standard library takes files only
        context.load_cert_chain(*pair.write(Path(directory), "serving"))
    return context


def _log_of(container: Container, pod: str, query: LogQuery) -> Path:
    """The file that is asked for, or 400 with a kubelet's words."""
    record = container.record
    if query.previous:
        if record.last is None:
            text = f"previous terminated container {record.name!r} in pod {pod!r} not found"
            raise web.HTTPBadRequest(text=text)
        # while it waits for its restart, the instance that has ended is both the latest and the previous one
        return container.log_path(previous=not isinstance(record.state, Waiting))
    match record.state:
        case Running():
            return container.log_path()
        case _ if record.ended is not None and record.ended.container_id:
            return container.log_path()
        case Waiting(reason=reason):
            says = {
                "ErrImagePull": "image can't be pulled",
                "ImagePullBackOff": "trying and failing to pull image",
            }.get(reason, reason)
            text = f"container {record.name!r} in pod {pod!r} is waiting to start: {says}"
        case Terminated():
            text = f"container {record.name!r} in pod {pod!r} is terminated"
    raise web.HTTPBadRequest(text=text)


def _query(request: web.Request) -> LogQuery:
    asked = request.query
    since: float | None = None
    if text := asked.get("sinceTime"):
        since = parse_rfc3339(text)
    elif text := asked.get("sinceSeconds"):
        since = time.time() - float(text)
    return LogQuery(
        follow=_flag(asked.get("follow")),
        previous=_flag(asked.get("previous")),
        timestamps=_flag(asked.get("timestamps")),
        tail_lines=_number(asked.get("tailLines")),
        limit_bytes=_number(asked.get("limitBytes")),
        since=since,
    )


def _flag(text: str | None) -> bool:
    return text in {"true", "1"}


def _number(text: str | None) -> int | None:
    return int(text) if text else None
