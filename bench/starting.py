"""From the shell's prompt to the first output, against an interpreter that does nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pairs import Pair, Side

TTFLEET = "from reconciler.commands import main; main()"
FLEET = Path(__file__).parent.parent / "fleet"


def pairs(size: int) -> Iterator[Pair]:
    del size
    bare = Side(label="python -c pass", run=lambda: _run("-c", "pass"))
    for name, arguments in (("start-version", ("--version",)), ("start-validate", ("validate", str(FLEET)))):
        said = " ".join(("ttfleet", *arguments[:1]))
        yield Pair(
            name=name, a=Side(label=said, run=lambda words=arguments: _run("-c", TTFLEET, *words)), b=bare
        )


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, timeout=60)
