"""The notebooks can be read with their results, and they run.

    python -m tests.test_notebooks why_unpooling

runs a notebook, and stores its results in it.
"""

import ast
import base64
import json
import os
import re
import sys
import tempfile

import pytest

from tests.paths import ROOT

pytestmark = [pytest.mark.docs, pytest.mark.notebook]

NOTEBOOKS = ROOT / "notebooks"
# Small values of the settings in the cell with the tag `parameters`.
SMALL = {
    "unpooling_pictures": {"EPOCHS": 1, "NUM_IMAGES": 16},
    "why_unpooling": {"CPU_SECONDS": 0, "NUM_TEST_IMAGES": 1},
}


def read(name):
    text = (NOTEBOOKS / f"{name}.ipynb").read_text("utf-8")
    return json.loads(text)["cells"]


def source(cell):
    return "".join(cell["source"])


def is_parameters(cell):
    return "parameters" in cell["metadata"].get("tags", [])


def problems(cells):
    """Return what a reader would miss in a notebook."""
    found = []
    first, *_ = cells
    if not re.search(r"\*\*Time and hardware:\*\* .*\bminute", source(first)):
        found.append("The first cell does not state the time and the hardware.")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    if not re.search(r'^ADDRESS = ".*"$', source(code[0]), re.MULTILINE):
        found.append("The first code cell does not install the package.")
    counts = [cell["execution_count"] for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"The cells were not run once, in order: {counts}.")
    for cell in code:
        text = source(cell)
        if re.search(
            r"argparse|sys\.argv|SystemExit|_deconv\._|\._\w+\(", text
        ):
            found.append(f"A cell is the code of a script: {text[:50]}")
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                found.append(f"A cell failed: {text[:50]}")
            if output.get("name") == "stderr":
                found.append(f"A cell warns: {text[:50]}")
            if re.search(r"/(?:tmp|home|root)/", json.dumps(output)):
                found.append(f"An output names a folder: {text[:50]}")
    return found


def execute(notebook, folder):
    """Run a notebook in a folder. An error in a cell ends the run."""
    import nbclient

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbclient.NotebookClient(
        notebook,
        timeout=1200,
        kernel_name="python3",
        record_timing=False,
        # The log of TensorFlow's C++ code goes to the terminal.
        extra_arguments=["--IPKernelApp.capture_fd_output=False"],
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def images(cells):
    """Return the PNG files in the outputs."""
    outputs = (one for cell in cells for one in cell.get("outputs", []))
    found = (output.get("data", {}).get("image/png") for output in outputs)
    return [base64.b64decode("".join(one)) for one in found if one]


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_notebook_can_be_read_alone(name):
    cells = read(name)
    assert problems(cells) == []
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 500_000
    assert len(images(cells)) >= 3
    for png in images(cells):
        assert png.startswith(b"\x89PNG")
        assert len(png) < 100_000
    # Text explains at least every second code cell.
    kinds = [cell["cell_type"] for cell in cells]
    assert kinds.count("markdown") >= kinds.count("code") / 2


@pytest.mark.parametrize("name", SMALL)
def test_small_settings_are_settings_of_the_notebook(name):
    [cell] = filter(is_parameters, read(name))
    assigned = {
        node.targets[0].id
        for node in ast.parse(source(cell)).body
        if isinstance(node, ast.Assign)
    }
    assert set(SMALL[name]) <= assigned


def test_a_notebook_that_was_not_run_is_seen():
    cells = read("unpooling_pictures")
    cells[0]["source"] = "# Title"
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    code[0]["source"] = "pip install keras-deconv"
    code[1]["source"] = "import argparse"
    code[2]["execution_count"] = None
    code[3]["outputs"] = [
        {"output_type": "error"},
        {"output_type": "stream", "name": "stderr", "text": "/home/me/x.py"},
    ]
    assert len(problems(cells)) == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_notebook_runs(name, tmp_path, all_scenes_dir, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("TFDS_DATA_DIR", str(all_scenes_dir))
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    [number] = (
        i for i, cell in enumerate(notebook.cells) if is_parameters(cell)
    )
    small = [f"{key} = {value}" for key, value in SMALL[name].items()]
    notebook.cells[number + 1 : number + 1] = [
        nbformat.v4.new_code_cell("\n".join(small))
    ]
    execute(notebook, tmp_path)
    assert problems(notebook.cells) == []
    assert len(images(notebook.cells)) == len(images(read(name)))


def main(names):
    """Run notebooks with their settings, and store the results."""
    import nbformat

    for name in names:
        path = NOTEBOOKS / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        # Other versions of Python would change these lines.
        notebook.metadata.language_info = {"name": "python"}
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main(sys.argv[1:] or SMALL)
