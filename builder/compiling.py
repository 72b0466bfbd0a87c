"""kbuild with the host's kernel headers and a compiler that fits the kernel."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from builder.context import Stopped
from builder.host import Host
from schema.names import MODULE
from schema.states import Reason
from schema.transaction import Result

MAKE_TIMEOUT_S: Final = 900.0
PROBE_TIMEOUT_S: Final = 10.0
JOBS: Final = 2
NEWEST_GCC: Final = 16
_CONFIGURATION: Final = "include/config/auto.conf"


def headers(host: Host, release: str) -> str | None:
    """The host's path of the kernel's build directory; None where the headers are not installed."""
    link = f"/lib/modules/{release}/build"
    directory = host.resolve(link)
    return directory if host.exists(link) and host.exists(f"{directory}/Makefile") else None


def compile_module(
    host: Host, sources: Path, directory: str, *, compiler: str, log: Callable[[str], None]
) -> bytes:
    """Build `tenstorrent.ko` from `sources` against the headers in `directory`; what make prints goes to `log`.

    The upstream Makefile is not used: kbuild is called as it would call it, so only kernel and compiler matter.

    Raises:
        Stopped: BuildFailed, with the compiler's first error.
    """
    command = [
        "make",
        f"-j{JOBS}",
        "-C",
        str(host.path(directory)),
        f"M={sources}",
        f"CC={compiler}",
        "modules",
    ]
    done = host.run(command, timeout_s=MAKE_TIMEOUT_S)
    log(f"{done.out}{done.err}".rstrip())
    path = sources / f"{MODULE}.ko"
    if not done.ok or not path.is_file():
        error = next((line for line in done.err.splitlines() if "error:" in line), done.said)
        raise Stopped(Reason.BUILD_FAILED, error, result=Result.FAILED)
    return path.read_bytes()


def choose_compiler(host: Host, directory: str) -> str:
    """The gcc of the major that built the kernel, else the next newer one (a newer one builds for an older kernel).

    Raises:
        Stopped: BuildFailed: none here is new enough, or the kernel was built with clang.
    """
    text = host.text(f"{directory}/{_CONFIGURATION}")
    if "CONFIG_CC_IS_CLANG=y" in text:
        raise Stopped(Reason.BUILD_FAILED, "the kernel was built with clang", result=Result.FAILED)
    match = re.search(r"^CONFIG_GCC_VERSION=(\d+)", text, re.MULTILINE)
    wanted = int(match[1]) // 10_000 if match else 0
    for major in range(wanted, NEWEST_GCC + 1) if wanted else ():
        if _major(host, f"gcc-{major}") == major:
            return f"gcc-{major}"
    if _major(host, "gcc") >= max(wanted, 1):
        return "gcc"
    raise Stopped(Reason.BUILD_FAILED, f"the kernel needs gcc {wanted} or newer", result=Result.FAILED)


def _major(host: Host, compiler: str) -> int:
    """0 where there is no such compiler."""
    done = host.run([compiler, "-dumpversion"], timeout_s=PROBE_TIMEOUT_S)
    match = re.match(r"\d+", done.out) if done.ok else None
    return int(match[0]) if match else 0
