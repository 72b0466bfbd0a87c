"""Volumes of a pod: directories below the pod's own, filled through the API as the node, which the Node authorizer watches."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconciler.adapters.kube import Kube
from reconciler.sandbox.kubelet.environment import field
from schema.clock import parse_rfc3339

RENEW_SHARE = 0.8  # of a token's lifetime, as a kubelet does
SERVICE_ACCOUNT_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class MountFault(Exception):  # noqa: N818  it keeps the pod in ContainerCreating and is tried again
    """A volume cannot be set up yet, or at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """What `mount` made.

    Attributes:
        paths: volume -> directory or file on this machine.
        renew_at: POSIX seconds when the first token should be asked for again; None without tokens.
    """

    paths: Mapping[str, Path]
    renew_at: float | None

    def mounted(self, container: Mapping[str, Any], at: str) -> Path | None:
        """What `container` sees at the path `at`."""
        for mount in container.get("volumeMounts") or ():
            if mount["mountPath"].rstrip("/") == at and mount["name"] in self.paths:
                return self.paths[mount["name"]] / str(mount.get("subPath", ""))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounter:
    """Sets up the volumes of pods on one node.

    Attributes:
        kube: connection as the node.
        host_root: the fake host's `/`.
    """

    kube: Kube
    host_root: Path

    async def mount(self, pod: Mapping[str, Any], directory: Path) -> Volumes:
        """All volumes of `pod`, below `directory`. May be called again: tokens are then new.

        Raises:
            MountFault: not now, or never.
        """
        paths: dict[str, Path] = {}
        renewals: list[float] = []
        for volume in pod["spec"].get("volumes") or ():
            paths[volume["name"]] = path = self._place(volume, directory)
            if "hostPath" in volume:
                _check_host_path(path, volume["hostPath"])
                continue
            path.mkdir(parents=True, exist_ok=True)
            for source in _sources(volume):
                renewal = await self._fill(pod, source, path)
                renewals += [renewal] if renewal else []
        return Volumes(paths=paths, renew_at=min(renewals, default=None))

    def _place(self, volume: Mapping[str, Any], directory: Path) -> Path:
        if "hostPath" in volume:
            return self.host_root / str(volume["hostPath"]["path"]).lstrip("/")
        return directory / str(volume["name"])

    async def _fill(self, pod: Mapping[str, Any], source: Mapping[str, Any], path: Path) -> float | None:
        match source:
            case {"serviceAccountToken": token}:
                return await self._token(pod, token, path)
            case {"configMap": named}:
                _write(path, await self._object(pod, "configmaps", named), named)
            case {"secret": named}:
                _write(path, await self._object(pod, "secrets", named), named)
            case {"downwardAPI": {"items": items}}:
                for item in items:
                    _put(path / item["path"], field(pod, item["fieldRef"]["fieldPath"]).encode())
            case _:
                raise MountFault(f"a hollow node does not know volumes of {', '.join(source)}")
        return None

    async def _token(self, pod: Mapping[str, Any], source: Mapping[str, Any], path: Path) -> float:
        """A token that is bound to the pod; returns when to renew it."""
        metadata, account = pod["metadata"], pod["spec"].get("serviceAccountName", "default")
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        audience = source.get("audience")
        answer = await self.kube.create(
            f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {
                    "audiences": [audience] if audience else [],
                    "expirationSeconds": source.get("expirationSeconds", 3600),
                    "boundObjectRef": bound,
                },
            },
        )
        if not answer.ok:
            raise MountFault(f"token of {account}: {answer.message}")
        _put(path / source["path"], answer.body["status"]["token"].encode())
        now = time.time()
        return now + RENEW_SHARE * (parse_rfc3339(answer.body["status"]["expirationTimestamp"]) - now)

    async def _object(
        self, pod: Mapping[str, Any], plural: str, source: Mapping[str, Any]
    ) -> Mapping[str, bytes]:
        name = source.get("name") or source.get("secretName")
        answer = await self.kube.get(f"/api/v1/namespaces/{pod['metadata']['namespace']}/{plural}/{name}")
        if answer.code == 404 and source.get("optional"):
            return {}
        if not answer.ok:
            raise MountFault(f"{plural} {name}: {answer.message}")
        return _contents(answer.body)


def _sources(volume: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if "projected" in volume:
        return list(volume["projected"].get("sources") or ())
    if "emptyDir" in volume:
        return []
    return [{key: value for key, value in volume.items() if key != "name"}]


def _check_host_path(path: Path, source: Mapping[str, Any]) -> None:
    """The checks that a kubelet makes for each `type`; without a type the runtime makes a missing directory."""
    match source.get("type") or "":
        case "" | "DirectoryOrCreate":
            if not path.exists():
                path.mkdir(parents=True)
        case "FileOrCreate":
            path.touch()
        case "File" if not path.is_file():
            raise MountFault(f"hostPath type check failed: {source['path']} is not a file")
        case "Directory" if not path.is_dir():
            raise MountFault(f"hostPath type check failed: {source['path']} is not a directory")
        case kind if not path.exists():
            raise MountFault(f"hostPath type check failed: {source['path']} is not a {kind}")
        case _:
            return


def _contents(body: Mapping[str, Any]) -> dict[str, bytes]:
    """Of a ConfigMap or a Secret."""
    import base64  # noqa: PLC0415  secrets only

    if body.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (body.get("data") or {}).items()}
    found = {key: value.encode() for key, value in (body.get("data") or {}).items()}
    return found | {key: base64.b64decode(value) for key, value in (body.get("binaryData") or {}).items()}


def _write(path: Path, contents: Mapping[str, bytes], source: Mapping[str, Any]) -> None:
    items = source.get("items") or [{"key": key, "path": key} for key in contents]
    for item in items:
        if item["key"] not in contents:
            raise MountFault(f"references non-existent key: {item['key']}")
        _put(path / item["path"], contents[item["key"]])


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    temporary.chmod(0o600)
    temporary.replace(path)
