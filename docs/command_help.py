"""Lets pages of the site quote the help of the command.

MkDocs calls this for each page: `<!-- help: train -->` becomes what
`keras-deconv train --help` prints, so that no copy of it can grow old.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def help_text(command: str) -> str:
    """What the command prints; "" is the command as a whole."""
    return subprocess.run(
        [sys.executable, "-m", "keras_deconv_cli", *command.split(), "-h"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80", "NO_COLOR": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the help in the places of a page that ask for it."""
    return re.sub(
        r"<!-- help:(.*?)-->",
        lambda match: f"```text\n{help_text(match[1])}```",
        markdown,
    )
