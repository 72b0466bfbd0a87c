"""Finding and building the control plane's binaries, with a Go that is a shell script."""

import fcntl
import io
import os
import re
import threading
import time

import pytest

from reconciler.sandbox import binaries
from reconciler.sandbox.binaries import (
    MODULES,
    PACKAGES,
    cache_directory,
    compile_package,
    find,
    find_or_build,
)
from reconciler.sandbox.errors import SandboxError
from reconciler.sandbox.golang import Go, find_go
from reconciler.sandbox.progress import Line, Progress

PATH = {"PATH": os.environ["PATH"]}


def executables(directory, names=PACKAGES):
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


def fake_go(directory, script):
    path = directory / "go"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Go(binary=path)


def test_assets_go_before_the_cache_but_only_whole(tmp_path):
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "KUBEBUILDER_ASSETS": str(tmp_path / "assets")}
    assert find(environment) is None
    executables(tmp_path / "assets", ["etcd", "kube-apiserver", "kubectl"])  # what envtest brings
    assert find(environment) is None
    cached = executables(cache_directory(environment) / "bin")
    assert find(environment).directory == cached
    executables(tmp_path / "whole")
    assert find(environment | {"KUBEBUILDER_ASSETS": str(tmp_path / "whole")}).directory == tmp_path / "whole"
    (cached / "kubectl").chmod(0o644)
    assert find(environment) is None


def test_a_build_writes_the_binary_and_keeps_go_in_its_own_directories(tmp_path):
    # called as: go build -ldflags=... -o OUTPUT PACKAGE
    go = fake_go(tmp_path, 'env > "$4"; echo "$2" >> "$4"; echo "$5" >> "$4"; pwd >> "$4"')
    told = []
    environment = PATH | {"GOROOT": "/elsewhere", "GOFLAGS": "-mod=mod", "GOPROXY": "https://proxy.example"}
    compile_package("kubectl", tmp_path / "out", go, tmp_path / "work", told.append, environment)
    text = (tmp_path / "out").read_text()
    assert told[0] == "building"
    for name in ("GOMODCACHE", "GOCACHE", "GOPATH", "GOTMPDIR"):
        assert f"{name}={tmp_path / 'work'}/" in text
    assert "GOFLAGS=-mod=readonly" in text
    assert "GOTOOLCHAIN=local" in text
    assert "GOPROXY=https://proxy.example" in text
    assert "GOROOT" not in text
    assert f"gitVersion={binaries.kubernetes_version()} " in text
    assert text.splitlines()[-2:] == ["k8s.io/kubernetes/cmd/kubectl", str(MODULES / "kubernetes")]


def test_a_broken_download_is_tried_again_a_broken_build_is_not(tmp_path):
    count = tmp_path / "count"
    flaky = f'echo x >> {count}; [ $(wc -l < {count}) = 3 ] && touch "$4" && exit 0; '
    go = fake_go(tmp_path, flaky + "echo 'dial tcp: lookup proxy: i/o timeout'; exit 1")
    compile_package("etcd", tmp_path / "out", go, tmp_path / "work", print, PATH)
    assert (tmp_path / "out").exists()
    count.unlink()
    go = fake_go(tmp_path, f"echo x >> {count}; echo 'verifying module: checksum mismatch'; exit 1")
    with pytest.raises(
        SandboxError, match=r"(?s)building etcd failed; the end of .*checksum mismatch.*is kept"
    ):
        compile_package("etcd", tmp_path / "other", go, tmp_path / "work", print, PATH)
    assert count.read_text() == "x\n"
    assert not (tmp_path / "other").exists()


@pytest.fixture
def quick_build(monkeypatch, tmp_path):
    """`find_or_build` into an empty cache with a Go that takes no time."""
    monkeypatch.setattr(
        binaries, "find_go", lambda minimum: fake_go(tmp_path, 'echo "#!" > "$4"; chmod +x "$4"')
    )
    return PATH | {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_a_build_continues_where_it_was_and_clears_up(quick_build):
    cache = cache_directory(quick_build)
    executables(cache / "bin", ["etcd", "kube-apiserver"])
    (cache / "bin" / ".kubectl.new").write_text("half of it")
    (cache / "build").mkdir()
    told = []
    found = find_or_build(told.append, quick_build)
    assert [(p.index, p.total, p.subject) for p in told if p.what == "built"] == [
        (1, 3, "kube-controller-manager"),
        (2, 3, "kube-scheduler"),
        (3, 3, "kubectl"),
    ]
    assert sorted(path.name for path in found.directory.iterdir()) == sorted(PACKAGES)
    assert not (cache / "build").exists()
    assert find_or_build(pytest.fail, quick_build) == found


def test_two_at_once_build_once(quick_build):
    cache = cache_directory(quick_build)
    cache.mkdir(parents=True)
    told, results = [], []
    with (cache / "lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: results.append(find_or_build(told.append, quick_build)))
        thread.start()
        deadline = time.monotonic() + 20
        while not told and time.monotonic() < deadline:
            time.sleep(0.01)
        executables(cache / "bin")  # the other one has built
    thread.join(20)
    assert results[0].directory == cache / "bin"
    assert {str(progress.what) for progress in told} == {"waiting for"}


def test_no_room_is_said_before_anything_is_downloaded(quick_build, monkeypatch):
    monkeypatch.setattr(binaries, "DISK_NEEDED_BYTES", 2**60)
    with pytest.raises(SandboxError, match="make room"):
        find_or_build(lambda progress: None, quick_build)
    assert not (cache_directory(quick_build) / "build").exists()


def test_an_old_go_is_refused_with_what_was_found(monkeypatch):
    with pytest.raises(SandboxError, match=r"no Go 9\.99 or newer.*pip install 'ttfleet\[sandbox\]'"):
        find_go("module x\n\ngo 9.99.0\n")


def test_every_staging_module_is_pinned_to_its_release_and_every_module_to_its_hash():
    text = (MODULES / "kubernetes" / "go.mod").read_text()
    replaced = dict(re.findall(r"^replace (\S+) => \1 (\S+)$", text, re.MULTILINE))
    assert len(replaced) >= 31
    assert set(replaced.values()) == {binaries.kubernetes_version().replace("v1.", "v0.")}
    assert "=> ." not in text
    for module, version in replaced.items():
        if re.search(rf"^\t{re.escape(module)} ", text, re.MULTILINE):
            sums = (MODULES / "kubernetes" / "go.sum").read_text()
            assert f"{module} {version} h1:" in sums, module


def test_progress_is_one_line_on_a_terminal_and_rare_in_a_log():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    now = [0.0]
    log, terminal = io.StringIO(), Terminal()
    for stream in (log, terminal):
        line = Line(stream, clock=lambda: now[0])
        for now[0] in (0.0, 1.0, 29.0, 31.0, 65.0):
            line(Progress(what="building", subject="etcd", index=1, total=5, elapsed_s=now[0]))
        line(Progress(what="built", subject="etcd", index=1, total=5, elapsed_s=66.0))
    assert log.getvalue().splitlines() == [
        "[1/5] building etcd 0:00",
        "[1/5] building etcd 0:31",
        "[1/5] building etcd 1:05",
        "[1/5] built etcd 1:06",
    ]
    assert terminal.getvalue().count("\n") == 1
    assert terminal.getvalue().endswith("\r\x1b[K[1/5] built etcd 1:06\n")
