"""Is a control plane usable? Asked with the standard library: it is polled before anything else can connect."""

import http.client
import ssl
from dataclasses import dataclass
from http import HTTPStatus

from reconciler.sandbox.components import LOOPBACK, Layout

REQUEST_BOUND_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Questions to the API server on `port`, as administrator."""

    layout: Layout
    port: int

    def ready(self) -> bool:
        """The server says so. Pods cannot be created yet."""
        return self._found("/readyz")

    def usable(self) -> bool:
        """The controller-manager works: it made the ServiceAccount that every pod needs."""
        return self._found("/api/v1/namespaces/default/serviceaccounts/default")

    def _found(self, path: str) -> bool:
        context = ssl.create_default_context(cafile=str(self.layout.certificate("ca")))
        context.load_cert_chain(self.layout.certificate("admin"), self.layout.key("admin"))
        connection = http.client.HTTPSConnection(
            LOOPBACK, self.port, timeout=REQUEST_BOUND_S, context=context
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
