"""Files that ttfleet ships: from the checkout where there is one, else from the installed package."""

from pathlib import Path
from typing import Final

from reconciler.sandbox.errors import SandboxError

#: name -> place in the checkout; pyproject's force-include puts each at data/<name> of the wheel
SHIPPED: Final = {"chart": "charts/ttfleet", "fleet": "fleet", "stub-kmd": "tests/data/stub-kmd"}


def shipped(name: str) -> Path:
    """The directory of `SHIPPED` named `name`.

    Raises:
        SandboxError: neither place has it.
    """
    package = Path(__file__).parent
    for place in (package.parents[1] / SHIPPED[name], package / "data" / name):
        if place.is_dir():
            return place
    raise SandboxError(f"{SHIPPED[name]} is neither in a checkout nor in this installation of ttfleet")
