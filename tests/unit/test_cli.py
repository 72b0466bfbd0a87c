"""The command line itself: version, help, exit codes, mistyped verbs."""

import subprocess
import sys

from reconciler.commands import run
from schema.version import __version__


def test_version_is_printed_without_importing_a_library_of_the_verbs():
    code = (
        "import sys; from reconciler.commands import run; run(['--version']);"
        "heavy = {'kubernetes', 'kopf', 'git', 'jsonschema', 'rich', 'ruamel'} & set(sys.modules); assert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, f"ttfleet {__version__}\n"), result.stderr


def test_an_unknown_verb_is_a_usage_error(capsys):
    assert run(["valdiate"]) == 2
    assert "No such command" in capsys.readouterr().err
