"""The environment of a container, from the pod's spec. Pure."""

import re
from collections.abc import Mapping
from typing import Any

_REFERENCE = re.compile(r"\$(\$|\(([-._a-zA-Z][-._a-zA-Z0-9]*)\))")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class EnvironmentFault(Exception):  # noqa: N818  it becomes a waiting reason, CreateContainerConfigError
    """A variable cannot be given a value."""


def environment(
    pod: Mapping[str, Any],
    container: Mapping[str, Any],
    services: Mapping[str, str],
    *,
    host_ip: str,
    pod_ip: str,
) -> dict[str, str]:
    """Name -> value: the variables of services first, then the container's own, each seeing those before it.

    Raises:
        EnvironmentFault: a source that a hollow node does not know (config maps, secrets, resources).
    """
    found = dict(services)
    addresses = {"status.hostIP": host_ip, "status.podIP": pod_ip}
    for variable in container.get("env") or ():
        name, source = variable["name"], variable.get("valueFrom")
        if source is None:
            found[name] = expand(variable.get("value") or "", found)
        elif path := (source.get("fieldRef") or {}).get("fieldPath"):
            found[name] = addresses.get(path) or field(pod, path)
        else:
            raise EnvironmentFault(f"{name}: a hollow node knows values and field references only")
    return found


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value, if there is one; `$$` is a dollar sign."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def field(pod: Mapping[str, Any], path: str) -> str:
    """A field as the downward API gives it: `spec.nodeName`, `metadata.labels['a/b']`.

    Raises:
        EnvironmentFault: no such field.
    """
    if match := _SUBSCRIPT.fullmatch(path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            if path == "spec.serviceAccountName":
                return ""
            raise EnvironmentFault(f"no field {path}")
        value = value[key]
    return str(value)
