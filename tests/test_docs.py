"""Tests that run or check every docstring example and every block of a page."""

import collections
import configparser
import contextlib
import doctest
import importlib
import importlib.util
import io
import pkgutil
import re
import shlex
import sys

import keras
import matplotlib.pyplot
import numpy as np
import pytest
import tensorflow_datasets as tfds

import keras_deconv
import keras_deconv_cli
from keras_deconv_cli import parser
from tests import networks, tiny_datasets
from tests.paths import ROOT

pytestmark = pytest.mark.docs

PAGES = [
    "README.md",
    *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md")),
]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_deconv.__path__, "keras_deconv.")
)
MODULES += [
    "keras_deconv_cli",
    *(
        f"keras_deconv_cli.{module.name}"
        for module in pkgutil.iter_modules(keras_deconv_cli.__path__)
        if module.name != "__main__"
    ),
]
# These show the size of the published networks. All others use fewer filters.
WITH_SIZES = (
    "docs/migration.md",
    "docs/models.md",
    "keras_deconv.export.tflite",
    "keras_deconv.models.segnet",
)
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.fixture(autouse=True)
def _own_data_dir(request, tmp_path, monkeypatch):
    is_slow = request.node.get_closest_marker("slow")
    # The results in the pages are those of all scenes.
    scenes = "all_scenes_dir" if is_slow else "scenes_dir"
    folder = request.getfixturevalue(scenes) / "scenes"
    (tmp_path / "tfds").mkdir()
    (tmp_path / "tfds" / "scenes").symlink_to(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    # tfds reads the environment variable only once, on import.
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path / "tfds"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, monkeypatch):
    if name.endswith("native_torch"):
        pytest.importorskip("torch")
    if name not in WITH_SIZES:
        networks.make_slim(monkeypatch)
    results = doctest.testmod(
        importlib.import_module(name), optionflags=FLAGS, verbose=False
    )
    assert results.failed == 0


def test_every_public_object_has_an_example():
    for home in (
        *("layers", "ops", "initializers", "models", "losses", "metrics"),
        *("inference", "visualize", "export", "callbacks", "data"),
        *("config", "distribution"),
    ):
        module = importlib.import_module(f"keras_deconv.{home}")
        assert module.__all__
        for name in module.__all__:
            if name.isupper():  # Constants do not have docstrings.
                continue
            text = getattr(module, name).__doc__
            assert ">>>" in text, f"{home}.{name} has no example"


# A fenced block of a page: its language, its text and its first line.
Block = collections.namedtuple("Block", "kind code line")
# Programs that blocks without a language, or with `bash`, may call.
PROGRAMS = {
    *("bash", "cp", "jupyter", "keras-deconv", "mkdir", "mkdocs", "pip"),
    *("pre-commit", "pytest", "python", "saved_model_cli", "source"),
    "tensorflow_model_server",
}


def blocks(text):
    """Return the fenced blocks of a page; raise an error for an open one."""
    found, kind, first = [], None, 0
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if kind is None:
            kind, first = line[3:], number + 1
        else:
            code = "".join(f"{one}\n" for one in lines[first:number])
            found.append(Block(kind, code, first))
            kind = None
    assert kind is None, f"the block at line {first} is not closed"
    return found


def run(text, name="page"):
    """Run the Python blocks of a page in order, and return its names."""
    names = {"__name__": "page"}
    for block in blocks(text):
        where = f"{name}, line {block.line + 1}"
        if block.kind == "python":
            # Empty lines make line numbers in tracebacks those of the page.
            code = compile("\n" * block.line + block.code, name, "exec")
            with pets_from_mock(block.code):
                exec(code, names)
        elif block.kind == "pycon":
            test = doctest.DocTestParser().get_doctest(
                block.code, names, where, None, None
            )
            runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
            said = []
            runner.run(test, out=said.append, clear_globs=False)
            assert not runner.failures, "".join(said)
            names.update(test.globs)
    check_mistakes(text, names)
    return names


def pets_from_mock(code):
    is_needed = "oxford_iiit_pet" in code
    return tiny_datasets.mock_pets() if is_needed else contextlib.nullcontext()


def check_mistakes(text, names):
    """Tables of mistakes: the code on the left says what is on the right."""
    header = "| code | error message |\n|---|---|\n"
    for table in text.split(header)[1:]:
        for row in table.split("\n\n")[0].splitlines():
            code, said = re.fullmatch(r"\| `(.+?)` \| (.+) \|", row).groups()
            parts = (re.escape(part.strip()) for part in said.split("…"))
            with pytest.raises(
                ValueError, match=re.compile(".*".join(parts), re.DOTALL)
            ):
                eval(code, names)


@pytest.mark.slow
def test_openvino_on_the_page(tmp_path, monkeypatch):
    """Run the block with OpenVINO on a model with one convolution."""
    for package in ("openvino", "tf2onnx"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "deploying.md").read_text()
    [block] = (block for block in blocks(page) if block.kind == "py")
    model = keras.Sequential(
        [keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)]
    )
    keras_deconv.export.to_saved_model(model, "saved_model")
    keras_deconv.export.to_onnx(model, "model.onnx")
    names = {"np": np, "image": np.zeros((1, 48, 64, 3), "float32")}
    exec(block.code, names)
    assert names["class_ids"].shape == (1, 48, 64)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_pages_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Pages write files.
    if page not in WITH_SIZES:
        networks.make_slim(monkeypatch)
    run((ROOT / page).read_text(), page)
    matplotlib.pyplot.close("all")


def test_train_in_four_lines():
    [block] = (
        block.code
        for block in blocks((ROOT / "README.md").read_text())
        if block.kind == "python" and "oxford_iiit_pet" in block.code
    )
    imports, *lines = (line for line in block.splitlines() if line)
    assert imports.startswith("from keras_deconv import")
    assert len(lines) == 4
    assert lines[-1].startswith("model.fit(train, validation_data=val")
    # The quick start has the same lines for generated scenes.
    for pets, scenes in (
        ("oxford_iiit_pet", "scenes"),
        ('["train", "test"]', '["train[:32]", "validation[:16]"]'),
        ("(96, 128", "(48, 64"),
        ("num_classes=3", "num_classes=6"),
    ):
        assert any(pets in line for line in lines), pets
        lines = [line.replace(pets, scenes) for line in lines]
    page = (ROOT / "docs" / "quick_start.md").read_text()
    assert "\n".join(lines) in page


def shell_commands(code):
    """Yield the commands of a block, each as a list of words."""
    lines = code.replace("\\\n", " ").splitlines()
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words and words[0] != "export":
                yield words


def inline_commands(text):
    """Yield the commands in sentences that name a file or an extra."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`]+)`", prose):
        if re.match(r"(python|pytest|pip install)\s", code):
            yield from shell_commands(" ".join(code.split()))


def problem(words):
    """Return the error of a command, or None."""
    program, *arguments = words
    if program not in PROGRAMS:
        return f"{program}: not a program that the pages use"
    if program == "keras-deconv":
        return command_problem(arguments)
    if program == "pip":
        return extras_problem(arguments)
    files = [word for word in arguments if re.search(r"\w/.*\.py$", word)]
    if program == "bash":
        files = arguments
    for file in files:
        if not (ROOT / file).is_file():
            return f"{file}: no such file"
    if program == "python":
        if len(files) != 1 and arguments[0] != "-m":
            return f"{' '.join(words)}: names no script"
        return script_problem(files[0], arguments) if files else None
    if program == "pytest":
        return selection_problem(arguments)
    return None


def selection_problem(arguments):
    """Check that pytest selects tests by markers and names that exist."""
    if "-k" in arguments:
        return "-k: choose by a marker or by file.py::name"
    for file, _, name in (word.partition("::") for word in arguments):
        if name and f"def {name}(" not in (ROOT / file).read_text():
            return f"{name}: not in {file}"
    return None


def command_problem(arguments):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse(arguments)
    except SystemExit as end:
        return said.getvalue() if end.code else None
    return None


def extras_problem(arguments):
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for extras in re.findall(r"\[(.+?)\]", " ".join(arguments)):
        for extra in extras.split(","):
            if extra not in settings["options.extras_require"]:
                return f"{extra}: no such extra"
    return None


def script_problem(file, arguments):
    """Check options in a script, and in the modules of its folder."""
    path = ROOT / file
    texts = [path.read_text()]
    for other in path.parent.glob("*.py"):
        if re.search(rf"^(import|from) {other.stem}\b", texts[0], re.MULTILINE):
            texts.append(other.read_text())
    known = set(re.findall(r"\"(--[a-z-]+)\"", "".join(texts)))
    for option in arguments:
        if option.startswith("--") and option.split("=")[0] not in known:
            return f"{file} has no option {option}"
    return None


def block_problem(block):
    """Return the error of a block that does not run as Python, or None."""
    if block.kind in ("python", "pycon"):
        return None
    # Output, and code for other libraries. tests/test_migration.py runs that
    # code if the libraries are installed.
    if block.kind in ("text", "py"):
        return None
    if block.kind not in ("", "bash"):
        return f"a block of the kind {block.kind!r}"
    found = (problem(words) for words in shell_commands(block.code))
    return next(filter(None, found), None)


@pytest.mark.parametrize(
    "page", [*PAGES, "CONTRIBUTING.md", "benchmarks/README.md"]
)
def test_commands_of_pages(page):
    text = (ROOT / page).read_text()
    for block in blocks(text):
        assert block_problem(block) is None
    for words in inline_commands(text):
        assert problem(words) is None


def missing_pages(settings, folder):
    """Return the files that only the folder or only the navigation has."""
    navigation = settings.split("\nnav:\n")[1].split("\n\n")[0]
    named = set(re.findall(r"[ :] ?([\w/-]+\.md)$", navigation, re.MULTILINE))
    there = {str(path.relative_to(folder)) for path in folder.glob("**/*.md")}
    return sorted(named ^ there)


def test_navigation_has_every_page():
    settings = (ROOT / "mkdocs.yml").read_text()
    assert missing_pages(settings, ROOT / "docs") == []


def broken_links(text, folder):
    """Return the links to missing files and to missing headings."""
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        path = folder / file
        if not path.is_file():
            broken.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            slugs = {
                re.sub(r"[^\w -]", "", heading)
                .strip()
                .lower()
                .replace(" ", "-")
                for heading in headings
            }
            if anchor not in slugs:
                broken.append(target)
    return broken


def test_links_of_the_readme():
    # `mkdocs build --strict` checks the links of the pages.
    assert broken_links((ROOT / "README.md").read_text(), ROOT) == []


def missing_sections(text):
    """Return the included sections that other files do not have."""
    missing = []
    for file, section in re.findall(
        r'^--8<-- "(.+?):(.+?)"$', text, re.MULTILINE
    ):
        source = (ROOT / file).read_text()
        if not all(f"[{end}:{section}]" in source for end in ("start", "end")):
            missing.append(f"{file}:{section}")
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_included_sections_exist(page):
    assert missing_sections((ROOT / page).read_text()) == []


def load_script(name):
    """Import a script of docs/, which is not a package."""
    path = ROOT / "docs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.skipif(
    sys.version_info[:2] >= (3, 13), reason="argparse formats help differently"
)
def test_command_page_is_current():
    script = load_script("command_help")
    command = "Run python docs/command_help.py"
    assert script.page() == script.PAGE.read_text(), command


def test_command_page_has_every_command():
    script = load_script("command_help")
    text = script.PAGE.read_text()
    [listed] = re.findall(r"^  COMMAND\n((?:    .+\n)+)", text, re.MULTILINE)
    commands = re.findall(r"^    (\w+)", listed, re.MULTILINE)
    assert tuple(commands) == script.COMMANDS
    for name in script.COMMANDS:
        assert f"usage: keras-deconv {name} " in text
    for option in ("--manual-dir", "--strategy", "--monte-carlo", "--quantize"):
        assert option in text


def test_reference_lists_the_public_names():
    listed = []
    for page in (ROOT / "docs" / "reference").glob("*.md"):
        # `data.augmentation` is a function in a module of the same name.
        listed += re.findall(
            r"^::: keras_deconv\.(\w+\.\w+)(?:\.augmentation)?$",
            page.read_text(),
            re.MULTILINE,
        )
    public = [
        f"{module}.{name}"
        for module in keras_deconv.__all__
        if module.islower()
        for name in importlib.import_module(f"keras_deconv.{module}").__all__
    ]
    assert sorted(listed) == sorted(public)


def test_api_links():
    script = load_script("api_links")
    html = "<p><code>data.load(...)</code> <code>data.load</code></p>"
    link = '<autoref identifier="keras_deconv.data.load" optional>'
    assert script.with_links(html) == (
        f"<p>{link}<code>data.load(...)</code></autoref> "
        "<code>data.load</code></p>"
    )
    for unchanged in (
        "<h2><code>data.load</code></h2> <code>load</code>",
        '<a href="x"><code>MeanIoU</code></a> <pre><code>MeanIoU</code></pre>',
    ):
        assert script.with_links(unchanged) == unchanged
    assert script.IDENTIFIERS["models.ENet"] == "keras_deconv.models.ENet"


def test_a_page_whose_code_or_output_is_wrong_fails():
    run("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n2\n```\n")
    for text in (
        "```python\nassert 1 == 2\n```\n",
        "```pycon\n>>> 1 + 1\n3\n```\n",
    ):
        with pytest.raises(AssertionError):
            run(text)
