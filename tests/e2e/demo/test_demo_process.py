"""The demo as a process: however it is ended, nothing of it stays behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
TTFLEET = [sys.executable, "-c", "from reconciler.commands import main; main()"]
BOUND_S = 60


@pytest.fixture
def demo(tmp_path):
    """Start `ttfleet demo` in a terminal-less session of its own."""
    log = tmp_path / "log"
    place = tmp_path / "place"
    place.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*TTFLEET, "demo"],
            env=os.environ | {"TMPDIR": str(place), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    yield process, log, place
    with suppress(ProcessLookupError):
        process.kill()
    process.wait()


def wait_for(check, what):
    deadline = time.monotonic() + BOUND_S
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def at_work(place):
    """Command lines of living processes that have anything to do with this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                said = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if str(place).encode() in said and int(entry.name) != os.getpid():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
    return found


@pytest.mark.parametrize(
    ("number", "after"),
    [
        (signal.SIGINT, "starting a control plane"),
        (signal.SIGINT, "commit 2"),
        (signal.SIGTERM, "commit 1"),
        (signal.SIGKILL, "commit 1"),
    ],
    ids=str,
)
def test_nothing_stays_behind(demo, number, after):
    process, log, place = demo
    wait_for(lambda: after in log.read_text(), f"{after!r} in the output")
    process.send_signal(number)
    code = process.wait(BOUND_S)
    wait_for(lambda: not at_work(place), "all processes to end")
    output = log.read_text()
    assert "Traceback" not in output
    assert "\x1b" not in output
    if number != signal.SIGKILL:
        assert (code, output.splitlines()[-1]) == (130, "ttfleet: interrupted")
        assert list(place.iterdir()) == []
