"""Write docs/reference/command.md, the help of the command `keras-deconv`.

    python docs/command_help.py

Run it when an option changes. tests/test_docs.py compares the file with the
output of this script.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "command.md"
COMMANDS = ("train", "evaluate", "predict", "export", "check", "info")
INTRODUCTION = """\
# Command line

This page shows the help of `keras-deconv` and of each of its commands. The
guide [Train and predict from the command line](../command.md) has examples.
"""


def help_text(*command: str) -> str:
    """Return the output of `keras-deconv COMMAND --help`."""
    return subprocess.run(
        [sys.executable, "-m", "keras_deconv_cli", *command, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def page() -> str:
    """Return the text of the page."""
    parts = [INTRODUCTION, f"```text\n{help_text()}```\n"]
    for command in COMMANDS:
        parts.append(f"## keras-deconv {command}\n")
        parts.append(f"```text\n{help_text(command)}```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
