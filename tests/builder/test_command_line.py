"""`python -m builder` as a pod runs it: verdict line, termination message, exit codes, signals, a real SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.facts import read_facts
from reconciler.sandbox.hosts import FakeHost
from schema.facts import HostFacts
from schema.names import ENV_COMMIT, ENV_KMD_VERSION, ENV_REPOSITORY, ENV_TERMINATION_LOG
from schema.transaction import Result
from schema.verdict import Verdict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def machine(tmp_path):
    machine = FakeHost.create(tmp_path / "host")
    machine.install_container("2.7.0", None)
    return machine


def environment(machine, tmp_path, **more):
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    log = {ENV_TERMINATION_LOG: str(tmp_path / "termination-log"), "PYTHONPATH": str(ROOT)}
    return inherited | machine.env() | log | more


def builder(machine, tmp_path, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "builder", *arguments],
        env=environment(machine, tmp_path, **more),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def verdict_of(done, tmp_path):
    line = done.stdout.splitlines()[-1]
    assert (tmp_path / "termination-log").read_text() == line
    return Verdict.from_json(json.loads(line))


def test_facts(machine, tmp_path):
    done = builder(machine, tmp_path, "facts")
    assert done.returncode == 0
    assert HostFacts.from_json(json.loads(done.stdout.splitlines()[0])) == read_facts(machine.host)
    assert verdict_of(done, tmp_path).version == "2.7.0"


def test_keep_and_ready(machine, tmp_path):
    machine.reboot()
    assert builder(machine, tmp_path, "ready").returncode == 1
    done = builder(machine, tmp_path, "keep", "--once")
    assert (done.returncode, verdict_of(done, tmp_path).changed) == (0, True)
    assert builder(machine, tmp_path, "ready").returncode == 0
    assert machine.loaded_version == "2.7.0"


def test_stage(machine, tmp_path, repository, commits):
    settings = {ENV_KMD_VERSION: "2.8.0", ENV_COMMIT: commits["2.8.0"], ENV_REPOSITORY: str(repository)}
    done = builder(machine, tmp_path, "stage", **settings)
    verdict = verdict_of(done, tmp_path)
    assert (done.returncode, verdict.result, verdict.changed) == (0, Result.OK, True), done.stderr
    assert "CC [M]" in done.stdout


def test_swap_outside_a_cluster_is_refused(machine, tmp_path):
    done = builder(machine, tmp_path, "swap", **{ENV_KMD_VERSION: "2.7.0", "TTFLEET_TXN_ID": "0" * 16})
    verdict = verdict_of(done, tmp_path)
    assert (done.returncode, verdict.result, verdict.reason) == (1, Result.REFUSED, "PermitVoid")


def test_what_we_did_not_foresee_is_a_verdict_too(machine, tmp_path):
    machine.host.write("/var/lib/ttfleet/journal.json", b"not json")
    done = builder(machine, tmp_path, "keep", "--once")
    verdict = verdict_of(done, tmp_path)
    assert (done.returncode, verdict.result, verdict.changed) == (1, Result.FAILED, True)
    assert "Traceback" in done.stderr


def test_wrong_usage(machine, tmp_path):
    assert builder(machine, tmp_path, "vacate").returncode == 2
    assert builder(machine, tmp_path).returncode == 2


def start(machine, tmp_path, *arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "builder", *arguments],
        env=environment(machine, tmp_path, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition, wait_s=30.0):
    while not condition():
        wait_s -= 0.02
        assert wait_s > 0
        time.sleep(0.02)


def test_keep_goes_on_until_it_is_told_to_stop(machine, tmp_path):
    machine.reboot()
    with start(machine, tmp_path, "keep", "--interval-s", "0.1") as child:
        until(lambda: machine.loaded_version == "2.7.0")
        machine.reboot()
        until(lambda: machine.loaded_version == "2.7.0")
        child.terminate()
        assert child.wait(timeout=30) == 0


def slow_insmod(machine):
    """insmod takes a second, and says when it has begun."""
    tool = machine.bin / "insmod"
    text = tool.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\ntouch {machine.root}/.fake/begun\nsleep 1\n")
    tool.write_text(text)
    return machine.root / ".fake/begun"


def test_a_keeper_killed_while_it_loads(machine, tmp_path):
    """The command outlives it and still holds the lock: nobody works beside it, the next pass finds its work done."""
    machine.reboot()
    begun = slow_insmod(machine)
    with start(machine, tmp_path, "keep") as child:
        until(begun.exists)
        child.send_signal(signal.SIGKILL)
        child.wait(timeout=30)
    busy = builder(machine, tmp_path, "keep", "--once")
    assert "another verb" in busy.stdout
    until(lambda: machine.loaded_version == "2.7.0")
    until(lambda: "is live" in builder(machine, tmp_path, "keep", "--once").stdout)


def test_stage_stops_when_it_is_told_to(machine, tmp_path, repository, commits):
    tool = machine.bin / "make"
    begun = machine.root / ".fake/begun"
    tool.write_text(f"#!/bin/sh\ntouch {begun}\nexec sleep 2\n")
    settings = {ENV_KMD_VERSION: "2.8.0", ENV_COMMIT: commits["2.8.0"], ENV_REPOSITORY: str(repository)}
    with start(machine, tmp_path, "stage", **settings) as child:
        until(begun.exists)
        child.terminate()
        out, _ = child.communicate(timeout=30)
    verdict = Verdict.from_json(json.loads(out.splitlines()[-1]))
    assert (verdict.result, verdict.changed) == (Result.REFUSED, False)
