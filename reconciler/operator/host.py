"""kopf hosts the process: credentials of its own connection, liveness, and a second watch that wakes the tick.

It decides and writes nothing (docs/adr/0001): no change handlers, no finalizers, no timers. Stopping order: our loop
finishes its tick and gives the Lease up, then kopf is told to stop; kopf alone would cancel every task that was
created after its start, wherever it stands. kopf that returns unasked ends the process with an error.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import kopf
from prometheus_client import CollectorRegistry, start_http_server

from reconciler.adapters.kube import Kube
from reconciler.adapters.metrics import Metrics
from reconciler.core.node.operate import operate
from reconciler.core.world import Settings, Term
from reconciler.operator.chronicle import Chronicle
from reconciler.operator.driver import Driver
from reconciler.operator.events import Recorder
from reconciler.operator.server import Server
from schema.names import DRIVER_GROUP, POLICY_PLURAL, V1ALPHA1

log = logging.getLogger("ttfleet.operator")

KOPF_STOP_S = 15.0
LOOP_STOP_S = 60.0  # a tick in flight: two requests of 30 s at most, one after the other
HANDLER_PAUSE_S = 0.05  # kopf installs its signal handlers in the moment in which it says that it is ready
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where metrics and liveness are served; port 0 = not at all."""

    address: str = "127.0.0.1"
    metrics: int = 8080
    liveness: int = 0


class HostError(Exception):
    """The process must end with an error: kopf or the loop ended unasked."""


async def host(kube: Kube, settings: Settings, identity: str, ports: Ports) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises:
        HostError: kopf or the loop ended unasked.
    """
    metrics = Metrics()
    stopping = asyncio.Event()
    recorder = Recorder(kube, identity)
    driver, server = _assemble(kube, settings, identity, metrics, recorder)
    _catch_signals(stopping)
    with _serving(metrics.registry, ports):
        async with recorder.running(), server.running():
            loop_task = asyncio.create_task(driver.run(stopping), name="driver")
            try:
                await _beside_kopf(kube, driver, ports, stopping, loop_task)
            finally:
                stopping.set()
                await _ended(loop_task, LOOP_STOP_S)
                await server.resign()


def _assemble(
    kube: Kube, settings: Settings, identity: str, metrics: Metrics, recorder: Recorder
) -> tuple[Driver, Server]:
    def heard(action: Any, outcome: Any) -> None:
        driver.heard(action, outcome)
        chronicle.heard(action, outcome)

    def changed() -> None:
        driver.wake.set()

    server = Server(kube, settings, Term(identity=identity), changed=changed, heard=heard)
    driver = Driver(server, operate, metrics)
    chronicle = Chronicle(metrics, recorder.note, server.nodes.store.get, server.policies.store.get)
    return driver, server


async def _beside_kopf(
    kube: Kube, driver: Driver, ports: Ports, stopping: asyncio.Event, loop_task: asyncio.Task[None]
) -> None:
    """Kopf for as long as the loop runs; whichever ends unasked ends both."""
    ready, stop = asyncio.Event(), asyncio.Event()
    kopf_task = asyncio.create_task(_kopf(kube, driver, ports, ready, stop), name="kopf")
    handlers = asyncio.create_task(_take_signals_back(ready, stopping), name="signals")
    try:
        await asyncio.wait({kopf_task, loop_task}, return_when=asyncio.FIRST_COMPLETED)
        if loop_task.done() and loop_task.cancelled():  # only kopf does that, on its way out
            await asyncio.wait({kopf_task}, timeout=KOPF_STOP_S)
        if kopf_task.done():
            raise HostError(f"kopf ended unasked: {_end_of(kopf_task)}")
        if loop_task.cancelled() or loop_task.exception() or not stopping.is_set():
            raise HostError(f"the loop ended unasked: {_end_of(loop_task)}") from _error_of(loop_task)
    finally:
        handlers.cancel()
        stop.set()
        await _ended(kopf_task, KOPF_STOP_S)


async def _kopf(kube: Kube, driver: Driver, ports: Ports, ready: asyncio.Event, stop: asyncio.Event) -> None:
    await kopf.operator(
        registry=_registry(kube, driver),
        settings=_kopf_settings(),
        clusterwide=True,
        standalone=True,
        ready_flag=ready,
        stop_flag=stop,
        liveness_endpoint=f"http://{ports.address}:{ports.liveness}/healthz" if ports.liveness else None,
    )


def _registry(kube: Kube, driver: Driver) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, id="kubeconfig", errors=kopf.ErrorsMode.PERMANENT)  # type: ignore[untyped-decorator]
    async def login(**_: object) -> kopf.ConnectionInfo:
        return await connection(kube)

    @kopf.on.event(DRIVER_GROUP, V1ALPHA1, POLICY_PLURAL, registry=registry, id="wake")  # type: ignore[untyped-decorator]
    async def wake(**_: object) -> None:
        driver.wake.set()

    @kopf.on.probe(registry=registry, id="ticking")  # type: ignore[untyped-decorator]
    async def ticking(**_: object) -> str:
        if not driver.alive:
            raise kopf.PermanentError("no tick has succeeded for three intervals")
        return "ok"

    del login, wake, ticking  # the registry holds them
    return registry


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.process.ultimate_exiting_timeout = None
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    return settings


async def connection(kube: Kube) -> kopf.ConnectionInfo:
    """Kopf connects as we do."""
    source = kube.configuration
    header = await source.get_api_key_with_prefix("BearerToken") or ""
    scheme, _, token = header.rpartition(" ")
    return kopf.ConnectionInfo(
        server=source.host,
        ca_path=source.ssl_ca_cert,
        insecure=not source.verify_ssl,
        certificate_path=source.cert_file,
        private_key_path=source.key_file,
        scheme=scheme.capitalize() or None,
        token=token or None,
        trust_env=(source.client_session_kwargs or {}).get("trust_env", True),
    )


@contextlib.contextmanager
def _serving(registry: CollectorRegistry, ports: Ports) -> Iterator[None]:
    if not ports.metrics:
        yield
        return
    httpd, thread = start_http_server(ports.metrics, ports.address, registry)
    try:
        yield
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _catch_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stopping.set)


async def _take_signals_back(ready: asyncio.Event, stopping: asyncio.Event) -> None:
    await ready.wait()
    await asyncio.sleep(HANDLER_PAUSE_S)
    _catch_signals(stopping)


async def _ended(task: asyncio.Task[Any], timeout_s: float) -> None:
    """Wait for its end; past the time-out cancel it. Its error has been told by whoever watched it."""
    await asyncio.wait({task}, timeout=timeout_s)
    if not task.done():
        log.warning("%s did not end within %.0f s: cancelled", task.get_name(), timeout_s)
        task.cancel()
        await asyncio.wait({task}, timeout=5)


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _end_of(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "cancelled"
    error = _error_of(task)
    return f"{type(error).__name__}: {error}" if error else "without an error"
