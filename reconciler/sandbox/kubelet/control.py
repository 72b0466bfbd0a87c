"""How others tell hollow nodes what to do: a socket in the hosts directory, one JSON line each way.

What concerns a fake host alone (a tool that fails, a device that is held) needs no socket: it lies in the host's files.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.hosts.machine import FakeHost

SOCKET: Final = "hollow.sock"
SPEC: Final = "node.json"  # of each node, in its directory
ROOT: Final = "root"  # its fake host
REPLY_BOUND_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class HollowControl:
    """Tells the hollow nodes of `hosts_directory` what to do, from any process. Blocks until it is done.

    Raises (all methods): SandboxError when nobody runs them, or for an unknown node; SandboxTimeoutError.
    """

    hosts_directory: Path

    def nodes(self) -> dict[str, bool]:
        """Name -> whether its kubelet is up."""
        found: dict[str, bool] = self._ask({"verb": "list"})
        return found

    def reboot(self, node: str, *, down_s: float = 1.0) -> None:
        """A new boot: containers, module and holders are gone; pods start again as their policies say."""
        self._ask({"verb": "reboot", "node": node, "down_s": down_s})

    def power_off(self, node: str) -> None:
        """Until `come_back`; the controller-manager finds out by itself after 40 to 50 s."""
        self._ask({"verb": "power-off", "node": node})

    def vanish(self, node: str) -> None:
        """The kubelet hangs until `come_back`: no heartbeat, no word about pods; containers run on."""
        self._ask({"verb": "vanish", "node": node})

    def come_back(self, node: str) -> None:
        """After `vanish` or `power_off`."""
        self._ask({"verb": "return", "node": node})

    def host(self, node: str) -> FakeHost:
        """The fake host: `fail` a tool, `hold` and `release` its device, see what is loaded."""
        if not (self.hosts_directory / node / SPEC).exists():
            raise SandboxError(f"no hollow node {node} in {self.hosts_directory}")
        return FakeHost((self.hosts_directory / node / ROOT).resolve())

    def _ask(self, asked: Mapping[str, Any]) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(REPLY_BOUND_S)
            try:
                with short_path(self.hosts_directory) as path:
                    connection.connect(str(path))
                connection.sendall(json.dumps(asked).encode() + b"\n")
                line = connection.makefile("rb").readline()
            except TimeoutError:
                raise SandboxTimeoutError(f"hollow nodes: no answer within {REPLY_BOUND_S:.0f} s") from None
            except OSError as error:
                raise SandboxError(
                    f"no hollow nodes run in {self.hosts_directory} ({error.strerror})"
                ) from error
        if not line:
            raise SandboxError("the hollow nodes ended before they answered")
        answer = json.loads(line)
        if "error" in answer:
            raise SandboxError(answer["error"])
        return answer["result"]


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[Path]:
    """The socket by way of a descriptor: the path of a socket may have 107 bytes only, test directories have more."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Path(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)
