"""Link API names in code font to the reference, once per page and name.

MkDocs calls `on_page_content` for each page. The plugin autorefs, which comes
with mkdocstrings, resolves the links. tests/public_api.txt lists the names.
"""

import re
from pathlib import Path
from typing import Any

API = Path(__file__).parent.parent / "tests" / "public_api.txt"
# Code in links, headings and blocks does not get a link.
SKIPPED = re.compile(r"(<(a|pre|h[1-6])\b.*?</\2>)", re.DOTALL)
CODE = re.compile(r"<code>([\w.]+)((?:\(.*?\))?)</code>")


def identifiers() -> dict[str, str]:
    """Return the anchor in the reference for each way to write a name."""
    found = {}
    for line in API.read_text().splitlines():
        if match := re.match(r"keras_deconv\.([a-z]+)\.(\w+)\b(?!\.)", line):
            home, name = match.groups()
            anchor = f"keras_deconv.{home}.{name}"
            names = [f"{home}.{name}", anchor]
            if home == "layers":
                names.append(f"keras_deconv.{name}")
            # A class is clear without its module.
            if name[0].isupper() and not name.isupper():
                names.append(name)
            found.update(dict.fromkeys(names, anchor))
    return found


IDENTIFIERS = identifiers()


def with_links(html: str) -> str:
    """Return the HTML of a page with a link at the first use of each name."""
    seen = set()

    def link(match: re.Match) -> str:
        anchor = IDENTIFIERS.get(match[1])
        if anchor is None or anchor in seen:
            return match[0]
        seen.add(anchor)
        return f'<autoref identifier="{anchor}" optional>{match[0]}</autoref>'

    parts = SKIPPED.split(html)
    # The pattern has two groups, so that every third part is open text.
    parts[::3] = [CODE.sub(link, part) for part in parts[::3]]
    del parts[2::3]
    return "".join(parts)


def on_page_content(html: str, **_: Any) -> str:
    """Add the links to a page."""
    return with_links(html)
