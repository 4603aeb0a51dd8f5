"""Add the metadata that depends on the address of the project.

All other metadata is in setup.cfg. This file adds the long description, which
is the README with absolute links, and the project URLs.
"""

import re
from pathlib import Path

# The address of the repository, such as "https://github.com/OWNER/NAME". While
# it is empty, the package does not have project URLs, and links stay relative.
# tests/test_release.py checks that the files that repeat it have the same one.
ADDRESS = ""

ROOT = Path(__file__).parent
# An image, or the end of a link, whose label may be an image.
LINK = re.compile(r"(!\[[^\[\]]*\]|\])\((?![a-z]+:|#)([^)\s]+)\)")


def version():
    """Return `keras_deconv.__version__` without importing Keras."""
    text = (ROOT / "keras_deconv" / "__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)[1]


def with_absolute_links(text, address, revision):
    """Return a Markdown page that can be shown outside of the repository.

    Relative links and images become links to `revision`, a tag or a branch.
    Fenced code stays unchanged. If `address` is empty, the whole page does.
    """
    if not address:
        return text

    def absolute(link):
        label, target = link.groups()
        kind = "raw" if label.startswith("!") else "blob"
        return f"{label}({address}/{kind}/{revision}/{target})"

    # Code is every second part.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [LINK.sub(absolute, part) for part in parts[::2]]
    return "".join(parts)


def project_urls(address, revision):
    """Return the links that package indexes show beside the description."""
    if not address:
        return {}
    return {
        "Homepage": address,
        "Documentation": f"{address}/blob/{revision}/docs/index.md",
        "Changelog": f"{address}/blob/{revision}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }


if __name__ == "__main__":
    import setuptools

    tag = f"v{version()}"
    readme = (ROOT / "README.md").read_text("utf-8")
    setuptools.setup(
        long_description=with_absolute_links(readme, ADDRESS, tag),
        long_description_content_type="text/markdown",
        project_urls=project_urls(ADDRESS, tag),
    )
