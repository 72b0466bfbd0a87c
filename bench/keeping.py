"""The builder's keeper on a fake machine: the pass after a boot, and every pass after that."""

import atexit
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairs import Pair, Side

from builder.context import Context, SystemClock
from builder.keep import keep_once
from builder.settings import Settings
from reconciler.sandbox.hosts import FakeHost

VERSION, COMMIT = "2.7.0", "7" * 40


class Register:
    """The own node; counts what the keeper writes."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {"resourceVersion": "1", "labels": {}, "annotations": {}}
        self.patches = 0

    def get(self) -> dict[str, Any]:
        return {"metadata": self.metadata, "spec": {}}

    def patch(self, metadata: dict[str, Any]) -> dict[str, Any]:
        self.patches += 1
        for kind in ("labels", "annotations"):
            self.metadata[kind] |= metadata.get(kind, {})
        return self.get()


def pairs(size: int) -> Iterator[Pair]:
    del size
    directory = tempfile.TemporaryDirectory(prefix="ttfleet-bench-")
    atexit.register(directory.cleanup)
    machine = FakeHost.create(Path(directory.name) / "host")
    machine.install_container(VERSION, COMMIT)
    register = Register()
    context = Context(
        settings=Settings(node="node-1"),
        host=machine.host,
        api=register,
        clock=SystemClock(),
        log=lambda _line: None,
    )

    def idle() -> None:
        written = register.patches
        keep_once(context)
        assert register.patches == written

    yield Pair(
        name="keep",
        a=Side(
            label="the pass after a boot: load, report", run=lambda: keep_once(context), before=machine.reboot
        ),
        b=Side(label="an idle pass, which writes nothing", run=idle, before=lambda: keep_once(context)),
    )
