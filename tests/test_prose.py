"""The script that lists hard sentences finds them, and no others."""

import importlib.util

import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.docs

BEFORE_AND_AFTER = [
    (
        "verb no",
        "TFLite divides no int64.",
        "TFLite does not support int64 division.",
    ),
    (
        "inverted",
        "Never run on a GPU by us.",
        "Not yet tested on a GPU.",
    ),
    (
        "heading",
        "## And then",
        "## Next steps",
    ),
    (
        "is no",
        "It says of the others why they are none.",
        "It explains why the others do not qualify.",
    ),
    (
        "British",
        "Bad images take no neighbours along.",
        "Bad images do not hide other images in the batch.",
    ),
    (
        "noun clause",
        "Mistakes, and what they get",
        "Error messages",
    ),
    (
        "noun clause",
        "Where nothing can be said",
        "When errors cannot be raised",
    ),
    (
        "verb no",
        "The file is data, and no code of it runs.",
        "The file is treated as data; code in it is never executed.",
    ),
    (
        "inverted",
        "Of a linear map the transposed one.",
        "The transpose of a linear map.",
    ),
    (
        "noun clause",
        "Pixels that are it and are predicted so.",
        "The intersection of prediction and ground truth, divided by their "
        "union.",
    ),
    (
        "British",
        "Values that are one quantised value are equal.",
        "Values quantized to the same level tie.",
    ),
    (
        "dialect",
        "TensorFlow is a must.",
        "TensorFlow is required.",
    ),
    (
        "dialect",
        "The model is another one.",
        "The model is not a supported segmentation model.",
    ),
    (
        "is no",
        "It is none.",
        "`value` is not an int >= 1.",
    ),
    (
        "stiff",
        "A function that gives some is to be called.",
        "Call the generator function and pass its result.",
    ),
    (
        "is no",
        "A mean of integers is none.",
        "Integers cannot be averaged exactly.",
    ),
    (
        "stiff",
        "The option is not taken.",
        "The option is not supported.",
    ),
    (
        "verb no",
        "No multiple of the strides, 2, draws a checkerboard, and a warning.",
        "A kernel size that is not a multiple of the stride (2) causes "
        "checkerboard artifacts and emits a warning.",
    ),
    (
        "dialect",
        "A resumed training draws anew what it does anew.",
        "Repeated epochs overwrite their previews.",
    ),
    (
        "heading",
        "# Coming from elsewhere",
        "# Migrating from other libraries",
    ),
    (
        "term",
        "The data set holds pictures.",
        "The dataset holds images.",
    ),
    ("is no", "The axis is no int.", "There is no test split."),
    ("long", "word " * 36 + "ends.", "word " * 34 + "ends."),
]


@pytest.fixture(scope="module")
def prose():
    spec = importlib.util.spec_from_file_location(
        "prose", ROOT / ".ci" / "prose.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("rule", "before", "after"), BEFORE_AND_AFTER)
def test_a_sentence_before_and_after(prose, rule, before, after):
    assert rule in prose.broken_rules(before)
    assert prose.broken_rules(after) == []


PYTHON = '''\
"""Load data.

    python train.py  # what comes out is none
"""

# The first
# picture counts.
def load(path):
    """Load a picture.

    Args:
        path: A file. It is
            none. `picture`

    >>> load("picture")  # no picture
    """
    raise ValueError(f"{path} is no path to an image.")
'''
PAGE = """\
# Load images

Text of two
lines. The axis
is no int.

```python
assert "picture"  # picture
```

| `picture` | a data set |
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "module.py",
            PYTHON,
            [(6, "term"), (9, "term"), (12, "is no"), (17, "is no")],
        ),
        ("page.md", PAGE, [(4, "is no"), (8, "assert"), (11, "term")]),
    ],
)
def test_lines_of_a_file(prose, tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text)
    found = sorted((line, rule) for line, rule, _ in prose.findings(path))
    assert found == expected


def test_allow_list(prose):
    [entry] = prose.read_allowed("# A comment\n\na.md | long | words | why\n")
    assert entry.covers("a.md", "long", "many words")
    for other in (
        ("b.md", "long", "words"),
        ("a.md", "term", "words"),
        ("a.md", "long", "text"),
    ):
        assert not entry.covers(*other)
    with pytest.raises(SystemExit, match="not four fields"):
        prose.read_allowed("a.md | long | words |\n")
