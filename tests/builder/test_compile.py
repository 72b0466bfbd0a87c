"""Really compiles: real git, real make and gcc, Debian's generic kernel headers, through the builder's own stage code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.elf import read_module
from builder.modules import cached
from builder.stage import stage
from reconciler.sandbox.hosts import FakeHost, tools
from schema.transaction import Result

HEADERS = sorted(
    path
    for path in Path("/usr/src").glob("linux-headers-*-amd64")
    if "cloud" not in path.name and (path / "Makefile").exists()
)

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(not HEADERS, reason="no generic kernel headers: apt-get install linux-headers-amd64"),
    pytest.mark.skipif(
        shutil.which("make") is None or shutil.which("gcc") is None, reason="no make or no gcc"
    ),
]


@pytest.fixture
def machine(tmp_path):
    """A fake machine that runs the kernel of the installed headers, with these headers and the real compiler."""
    headers = HEADERS[-1]
    release = headers.name.removeprefix("linux-headers-")
    machine = FakeHost.create(tmp_path / "host", profile="debian12", kernel=release)
    directory = machine.root / "usr/src" / headers.name
    shutil.rmtree(directory)
    directory.mkdir()
    for path in headers.iterdir():
        (directory / path.name).symlink_to(path)
    tools.install_real_compiler(machine.bin)
    return machine


def test_both_versions_compile_against_real_headers(bench_of, machine, repository, commits):
    bench = bench_of(live=None, staged=())
    bench.machine, bench.repository = machine, str(repository)
    context = bench.context
    sources = {}
    for version in ("2.7.0", "2.8.0"):
        verdict = stage(real(context(version), machine))
        assert (verdict.result, verdict.changed) == (Result.OK, True)
        image = cached(machine.host, machine.kernel, version)
        assert (image.module.version, image.module.commit) == (version, commits[version])
        assert image.info.vermagic.split()[0] == machine.kernel
        assert image.info.parameters == {"max_devices", "reset_limit"}
        assert re.fullmatch(r"[0-9A-F]{23}", image.module.srcversion)
        sources[version] = image.module.srcversion
        agrees_with_modinfo(machine.host.path(image.path))
    assert len(set(sources.values())) == 2
    assert any(
        "SUBSYSTEM" in path.read_text()
        for path in machine.root.glob("var/cache/tt-kmd/*/*/50-tenstorrent.rules")
    )
    assert not stage(real(context("2.8.0"), machine)).changed


def real(context, machine):
    """The same context over the plain gate: commands are processes, make and gcc the machine's own."""
    from dataclasses import replace

    return replace(context, host=machine.host)


def agrees_with_modinfo(path):
    """kmod reads the same out of the file as we do."""
    if shutil.which("modinfo", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        return
    info = read_module(path.read_bytes())
    for field in ("version", "srcversion", "vermagic"):
        command = ["modinfo", "-F", field, str(path)]
        environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
        assert said.strip() == getattr(info, field).strip()


def test_a_real_compiler_error_is_what_the_verdict_says(bench_of, machine, repository, tmp_path):
    from builder.context import Stopped
    from schema.states import Reason

    broken = tmp_path / "broken"
    subprocess.run(["git", "clone", "-q", str(repository), str(broken)], check=True)
    source = broken / "tenstorrent.c"
    source.write_text(source.read_text().replace("#include <linux/cdev.h>", "#include <linux/gone.h>"))
    git = ["git", "-C", str(broken), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    subprocess.run([*git, "commit", "-qam", "break it"], check=True)
    subprocess.run([*git, "tag", "ttkmd-2.9.0"], check=True)
    commit = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    bench = bench_of(live=None, staged=())
    bench.machine = machine
    with pytest.raises(Stopped) as stopped:
        stage(real(bench.context("2.9.0", repository=str(broken), commit=commit), machine))
    assert stopped.value.reason is Reason.BUILD_FAILED
    assert "fatal error: linux/gone.h" in str(stopped.value)
    assert any("compilation terminated" in line for line in bench.log)
