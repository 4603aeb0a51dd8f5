"""The package and its sdist are complete and agree with each other."""

import ast
import configparser
import fnmatch
import json
import re
import runpy
import subprocess

import pytest

import keras_deconv
from tests.paths import ROOT, TESTS

ADDRESS = "https://example.org/owner/name"


@pytest.fixture(scope="module")
def setup():
    """The functions of setup.py, without running a build."""
    return runpy.run_path(str(ROOT / "setup.py"))


# --- Links of the long description --------------------------------------------

PAGE = """\
[Layers](docs/layers.md#odd-sizes), ![two
lines](docs/images/grids.png), [Keras](https://keras.io), [below](#limits)

```python
f = table[0](x)
```

[![A badge](badge.png)](docs/index.md)
"""


def test_relative_links_become_absolute(setup):
    page = setup["with_absolute_links"](PAGE, ADDRESS, "v0.1.0")
    blob, raw = (f"{ADDRESS}/{kind}/v0.1.0" for kind in ("blob", "raw"))
    expected = PAGE
    for old, new in (
        ("(docs/layers.md", f"({blob}/docs/layers.md"),
        ("(docs/images", f"({raw}/docs/images"),
        ("(badge.png", f"({raw}/badge.png"),
        ("(docs/index.md", f"({blob}/docs/index.md"),
    ):
        expected = expected.replace(old, new)
    assert page == expected


def test_without_an_address_the_page_stays_the_same(setup):
    assert setup["with_absolute_links"](PAGE, "", "v0.1.0") == PAGE
    assert setup["project_urls"]("", "v0.1.0") == {}


def test_links_of_the_readme_are_absolute(setup):
    readme = (ROOT / "README.md").read_text("utf-8")
    page = setup["with_absolute_links"](readme, ADDRESS, "v0.1.0")
    assert page.count(f"]({ADDRESS}/blob/v0.1.0/docs/") >= 5
    without_code = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.M)
    for target in re.findall(r"\]\(([^)]+)\)", without_code):
        assert re.match("https?:|#", target), target


def test_links_lead_to_files(setup):
    prefixes = [f"{ADDRESS}/{kind}/v0.1.0/" for kind in ("blob", "raw")]
    readme = (ROOT / "README.md").read_text("utf-8")
    page = setup["with_absolute_links"](readme, ADDRESS, "v0.1.0")
    urls = setup["project_urls"](ADDRESS, "v0.1.0").values()
    for target in [*re.findall(r"\((https?://[^)]+)\)", page), *urls]:
        for prefix in prefixes:
            if target.startswith(prefix):
                file = target.removeprefix(prefix).partition("#")[0]
                assert (ROOT / file).is_file(), target


# --- Versions and addresses ---------------------------------------------------


def citation():
    text = (ROOT / "CITATION.cff").read_text("utf-8")
    return dict(re.findall(r"^([a-z-]+): (\S.*)$", text, re.MULTILINE))


def test_version_is_the_same_everywhere(setup):
    assert setup["version"]() == keras_deconv.__version__
    assert citation()["version"] == keras_deconv.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", keras_deconv.__version__)


def test_address_is_the_same_everywhere(setup):
    address = setup["ADDRESS"]
    assert not address.endswith("/")
    assert citation().get("repository-code", "") == address
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        code = "".join("".join(cell["source"]) + "\n" for cell in cells)
        [written] = re.findall(r"^ADDRESS = (.*)$", code, re.MULTILINE)
        assert ast.literal_eval(written) == address, path.name


def test_classifiers_begin_with_the_oldest_python():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    classifiers = settings["metadata"]["classifiers"].split("\n")
    minors = [
        int(line.rpartition(".")[2])
        for line in classifiers
        if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)
    ]
    assert minors == list(range(minors[0], minors[-1] + 1))
    oldest = settings["options"]["python_requires"]
    assert oldest == f">=3.{minors[0]}"


# --- The sdist ----------------------------------------------------------------


def is_in_sdist(name, manifest):
    """Tell whether MANIFEST.in, or setuptools itself, adds a file."""
    # Setuptools adds the packages and the files that define the build.
    if name.startswith(("keras_deconv/", "keras_deconv_cli/")):
        return True
    if name in ("MANIFEST.in", "pyproject.toml", "setup.cfg", "setup.py"):
        return True
    for line in manifest.splitlines():
        command, _, patterns = line.partition(" ")
        for pattern in patterns.split():
            if command == "graft" and name.startswith(f"{pattern}/"):
                return True
            # A star does not match a slash.
            if (
                command == "include"
                and name.count("/") == pattern.count("/")
                and fnmatch.fnmatch(name, pattern)
            ):
                return True
    return False


@pytest.fixture(scope="module")
def manifest():
    return (ROOT / "MANIFEST.in").read_text("utf-8")


def test_sdist_has_every_tracked_file(manifest):
    if not ROOT.joinpath(".git").exists():
        pytest.skip("This is not a clone of the repository.")
    names = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "README.md" in names
    assert [name for name in names if not is_in_sdist(name, manifest)] == []


def test_sdist_has_every_path_that_tests_name(manifest):
    # Such as `ROOT / "docs" / "layers.md"`.
    path = re.compile(r'\bROOT((?: / "[^"]+")+)')
    found = set()
    for file in TESTS.rglob("*.py"):
        for parts in path.findall(file.read_text("utf-8")):
            found.add("/".join(re.findall(r'"([^"]+)"', parts)))
    assert {"README.md", "docs", "CITATION.cff"} <= found
    for name in found:
        is_folder = (ROOT / name).is_dir()
        assert is_folder or (ROOT / name).is_file(), name
        one = f"{name}/any" if is_folder else name
        assert is_in_sdist(one, manifest), name


def test_a_file_that_the_sdist_lacks_is_seen(manifest):
    for name in ("notes.txt", "notes/README.md", "doc/index.md"):
        assert not is_in_sdist(name, manifest)
    without_docs = manifest.replace("graft docs\n", "")
    assert is_in_sdist("docs/images/grids.png", manifest)
    assert not is_in_sdist("docs/images/grids.png", without_docs)
