"""Kubeconfigs with embedded credentials. JSON, which is YAML, so that nothing here needs a YAML writer."""

import base64
import json
from pathlib import Path
from typing import Any

from reconciler.sandbox.certificates import Pair, write_private


def certificate_user(pair: Pair) -> dict[str, str]:
    """The `user` entry of a client certificate."""
    return {"client-certificate-data": _text(pair.certificate), "client-key-data": _text(pair.key)}


def write_kubeconfig(path: Path, *, url: str, authority: bytes, user: dict[str, str]) -> Path:
    """Write a kubeconfig (0600) with one context, `ttfleet`."""
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "ttfleet", "cluster": {"server": url, "certificate-authority-data": _text(authority)}}
        ],
        "users": [{"name": "ttfleet", "user": user}],
        "contexts": [{"name": "ttfleet", "context": {"cluster": "ttfleet", "user": "ttfleet"}}],
        "current-context": "ttfleet",
    }
    write_private(path, json.dumps(document, indent=1).encode() + b"\n")
    return path


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
