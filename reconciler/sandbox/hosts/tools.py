"""The fake kernel tools: one program dispatched by name, started by the wrappers in a fake host's `bin`.

`invoke` is the same program as a function, for tests that want no process a command.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from builder.elf import NotAModule, read_module
from reconciler.sandbox.hosts import dkms, packages
from reconciler.sandbox.hosts.call import Call, ToolError
from reconciler.sandbox.hosts.kernel import MODULE, read_compressed
from reconciler.sandbox.hosts.koformat import build_module, srcversion
from reconciler.sandbox.hosts.state import FAKE

Tool = Callable[[Call], str]


def insmod(call: Call) -> str:
    path, *words = call.operands()
    if not Path(path).is_file():
        raise ToolError(f"insmod: ERROR: could not load module {path}: No such file or directory")
    try:
        call.kernel.load(Path(path).read_bytes(), dict(word.split("=", 1) for word in words))
    except OSError as error:
        raise ToolError(f"insmod: ERROR: could not insert module {path}: {error.strerror}") from error
    return ""


def rmmod(call: Call) -> str:
    try:
        call.kernel.unload()
    except OSError as error:
        raise ToolError(f"rmmod: ERROR: {error.strerror}") from error
    return ""


def modprobe(call: Call) -> str:
    """`-c`; `[-S K] -n -q NAME` (a dry run); `-r NAME`; `NAME`. Unknown options of kmod are not needed here."""
    kernel = call.kernel
    if {"-c", "--showconfig"} & set(call.arguments):
        return "\n".join([*kernel.modprobe_configuration(), ""])
    release = call.option("-S") or kernel.release
    name = next((word for word in reversed(call.operands()) if word != release), "")
    path = kernel.indexed(release) if name == MODULE else None
    if path is None:
        quiet = (
            ""
            if "-q" in call.arguments
            else f"modprobe: FATAL: Module {name} not found in directory {release}"
        )
        raise ToolError(quiet)  # -r too fails on a module outside the index (host fact 25)
    if "-n" in call.arguments:
        return ""
    try:
        if "-r" in call.arguments:
            kernel.unload()
        elif not kernel.loaded:  # with any version loaded: exit 0, nothing changes (host fact 25)
            kernel.load(read_compressed(path), kernel.modprobe_parameters())
    except OSError as error:
        raise ToolError(f"modprobe: ERROR: could not insert '{name}': {error.strerror}") from error
    return ""


def modinfo(call: Call) -> str:
    field, name = call.option("-F"), call.operands()[-1]
    path = Path(name) if "/" in name else call.kernel.indexed(call.option("-k") or call.kernel.release)
    if path is None or not path.is_file():
        raise ToolError(f"modinfo: ERROR: Module {name} not found.")
    try:
        info = read_module(read_compressed(path))
    except NotAModule as error:
        raise ToolError(f"modinfo: ERROR: could not get modinfo from '{name}': Invalid argument") from error
    rows = {"version": info.version, "srcversion": info.srcversion, "vermagic": info.vermagic}
    if field is not None:
        return f"{rows.get(field, '')}\n"
    return "".join(f"{key + ':':<16}{value}\n" for key, value in {"filename": str(path), **rows}.items())


def depmod(call: Call) -> str:
    """`depmod [-a] [KERNEL]`: index every module file of one kernel."""
    release = (call.operands() or (call.kernel.release,))[-1]
    if not call.kernel.depmod(release):
        raise ToolError(
            f"depmod: ERROR: could not open directory /lib/modules/{release}: No such file or directory"
        )
    return ""


def uname(call: Call) -> str:
    return f"{call.kernel.release if '-r' in call.arguments else 'Linux'}\n"


def udevadm(call: Call) -> str:
    """`control --reload` does nothing visible; `trigger` is an `add` event for every card."""
    if call.operands()[:1] == ("trigger",):
        call.kernel.udev_add()
    return ""


def gcc(call: Call) -> str:
    version = call.name.partition("-")[2] or str(call.kernel.state.profile.compiler)
    if {"-dumpversion", "-dumpfullversion"} & set(call.arguments):
        return f"{version}.2.0\n" if "-dumpfullversion" in call.arguments else f"{version}\n"
    raise ToolError("gcc: fatal error: no input files")


def make(call: Call) -> str:
    """`make -C KDIR M=SOURCES CC=COMPILER modules`: kbuild of the stub driver."""
    kdir, variables = (
        Path(call.option("-C") or call.here),
        dict(a.split("=", 1) for a in call.arguments if "=" in a),
    )
    release = _release(kdir)
    directory = Path(variables.get("M", call.here))
    sources = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
    match = re.search(rb'TENSTORRENT_DRIVER_VERSION "([^"]+)"', sources.get("version.h", b""))
    if match is None:
        raise ToolError(f"make: *** {directory}: No rule to make target 'modules'.  Stop.", 2)
    version, compiler = match[1].decode(), variables.get("CC", "gcc")
    if (fault := call.kernel.state.fault("make", version)) is not None:
        raise ToolError(f"tenstorrent.c:1:10: fatal error: {fault}\nmake[1]: *** [tenstorrent.o] Error 1", 2)
    _check_compiler(kdir, compiler)
    image = build_module(version=version, kernel=release, source=srcversion(sources), compiler=compiler)
    (directory / f"{MODULE}.ko").write_bytes(image)
    return f"  CC [M]  {directory}/{MODULE}.o\n  MODPOST Module.symvers\n  LD [M]  {directory}/{MODULE}.ko\n"


def kill(call: Call) -> str:
    """Ends a holder: `kill -KILL PID`."""
    pid = int(call.operands()[-1])
    with call.kernel.state.change() as data:
        names = [name for name, holder in data["holders"].items() if holder["pid"] == pid]
        for name in names:
            del data["holders"][name]
        call.kernel.count_holders(len(data["holders"]))
    if not names:
        raise ToolError(f"kill: ({pid}) - No such process")
    remove_process(call.root, pid)
    return ""


def remove_process(root: Path, pid: int) -> None:
    """`/proc/PID` goes."""
    import shutil  # noqa: PLC0415  the tools start faster without it

    shutil.rmtree(root / "proc" / str(pid), ignore_errors=True)


def _release(kdir: Path) -> str:
    try:
        text = (kdir / "include/generated/utsrelease.h").read_text()
    except OSError as error:
        raise ToolError(f"make: *** {kdir}: No such file or directory.  Stop.", 2) from error
    return text.split('"')[1]


def _check_compiler(kdir: Path, compiler: str) -> None:
    wanted = re.search(r"CONFIG_GCC_VERSION=(\d+)", (kdir / "include/config/auto.conf").read_text())
    major = compiler.partition("-")[2]
    if wanted and major and int(major) < int(wanted[1]) // 10_000:  # host fact 29
        message = f"{compiler}: error: unrecognized command-line option '-fmin-function-alignment=16'"
        raise ToolError(message, 2)


TOOLS: Final[dict[str, Tool]] = {
    "insmod": insmod,
    "rmmod": rmmod,
    "modprobe": modprobe,
    "modinfo": modinfo,
    "depmod": depmod,
    "uname": uname,
    "udevadm": udevadm,
    "gcc": gcc,
    "gcc-12": gcc,
    "gcc-13": gcc,
    "gcc-14": gcc,
    "make": make,
    "kill": kill,
    "dkms": dkms.dkms,
    "dpkg": packages.dpkg,
    "apt-mark": packages.apt_mark,
}
FAULTS_OF_THEIR_OWN: Final = {"make", "insmod", "rmmod"}  # they also look at the version


def invoke(root: Path, argv: Sequence[str], here: Path) -> tuple[int, str, str]:
    """Run one tool.

    Returns:
        Exit code, stdout, stderr.
    """
    call = Call(root=root, name=argv[0], arguments=tuple(argv[1:]), here=here)
    with (root / FAKE / "commands.log").open("a") as log:
        log.write(" ".join(argv) + "\n")
    if argv[0] not in FAULTS_OF_THEIR_OWN and (fault := call.kernel.state.fault(argv[0])) is not None:
        return 1, "", f"{argv[0]}: {fault}\n"
    try:
        return 0, TOOLS[argv[0]](call), ""
    except ToolError as error:
        return error.code, "", f"{error}\n" if str(error) else ""


def main(argv: Sequence[str]) -> int:
    """`ROOT TOOL ARGUMENTS…`."""
    code, out, err = invoke(Path(argv[0]), argv[1:], Path.cwd())
    sys.stdout.write(out)
    sys.stderr.write(err)
    return code


def install(root: Path, directory: Path) -> None:
    """Write one wrapper a tool into `directory`; git there is the real one."""
    directory.mkdir(parents=True, exist_ok=True)
    package_root = Path(__file__).parents[3]
    start = "from reconciler.sandbox.hosts.tools import main; sys.exit(main(sys.argv[1:]))"
    program = f"import sys; sys.path.insert(0, {str(package_root)!r}); {start}"
    for name in TOOLS:
        words = (os.path.realpath(sys.executable), "-S", "-E", "-c", program, str(root), name)
        line = " ".join(_quoted(word) for word in words)
        _executable(directory / name, f'#!/bin/sh\nexec {line} "$@"\n')
    _executable(directory / "git", '#!/bin/sh\nexec git "$@"\n')


def install_real_compiler(directory: Path) -> None:
    """Replace make and gcc in `directory` by the machine's own, for tests that really compile."""
    for name in ("make", "gcc", "gcc-12", "gcc-13", "gcc-14"):
        _executable(directory / name, f'#!/bin/sh\nexec {name} "$@"\n')


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
