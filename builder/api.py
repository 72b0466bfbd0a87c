"""The builder's own node on the API server: GET and PATCH, nothing else is allowed or needed."""

import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from schema.names import MANAGER_BUILDER

TIMEOUT_S: Final = 15.0
CONFLICT: Final = 409
_MERGE_PATCH: Final = "application/merge-patch+json"


class ApiError(Exception):
    """A request that did not succeed. `code` is the HTTP status, 0 when no answer came (it may have landed)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code


class NodeApi(Protocol):
    """One Node object as a register with compare-and-swap."""

    def get(self) -> dict[str, Any]:
        """The node, live.

        Raises:
            ApiError
        """
        ...

    def patch(self, metadata: dict[str, Any]) -> dict[str, Any]:
        """Merge `metadata`, which carries the resourceVersion it was decided from, as our field manager.

        Raises:
            ApiError: 409 when the node has changed since.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNode:
    """A node on the real API server, as the pod's service account."""

    server: tuple[str, int]
    node: str
    service_account: Path

    def get(self) -> dict[str, Any]:
        return self._request("GET", "")

    def patch(self, metadata: dict[str, Any]) -> dict[str, Any]:
        return self._request("PATCH", f"?fieldManager={MANAGER_BUILDER}", {"metadata": metadata})

    def _request(self, method: str, query: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        path = f"/api/v1/nodes/{urllib.parse.quote(self.node)}{query}"
        try:
            code, data = self._exchange(method, path, json.dumps(body) if body else None)
            answer: dict[str, Any] = json.loads(data or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"{method} node {self.node}: {type(error).__name__} {error}") from error
        if code >= http.client.BAD_REQUEST:
            raise ApiError(code, f"{method} node {self.node}: {answer.get('message', '')}")
        return answer

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        """One request on a connection of its own; the token is read every time, the kubelet renews it."""
        token = (self.service_account / "token").read_text().strip()
        trust = ssl.create_default_context(cafile=str(self.service_account / "ca.crt"))
        connection = http.client.HTTPSConnection(*self.server, timeout=TIMEOUT_S, context=trust)
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "User-Agent": MANAGER_BUILDER,
        }
        try:
            connection.request(method, path, body, headers | ({"Content-Type": _MERGE_PATCH} if body else {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
