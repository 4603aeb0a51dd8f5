"""Show all docstring sections in the reference.

griffe parses the docstrings. It does not know some of our sections, and treats
the text before a colon as a type.
"""

import re
import textwrap

import griffe

# Our name of a section, and the name that griffe knows.
_RENAMED = {
    "Call arguments": "Other Parameters: Call arguments",
    "Example": "Examples:",
}
# Keras documents these methods.
_OF_KERAS = ("get_config", "call")
# Sections with a heading and paragraphs.
_TEXT = re.compile(
    r"^(Returns|Input shape|Output shape|Edge cases):\n((?:    .*\n|\n)+)",
    re.MULTILINE,
)


def rewritten(text: str) -> str:
    """Return a docstring with sections that griffe knows."""
    text = _TEXT.sub(
        lambda match: f"**{match[1]}:**\n\n{textwrap.dedent(match[2])}",
        text + "\n",
    )
    for name, known in _RENAMED.items():
        text = re.sub(f"^{name}:$", known, text, flags=re.MULTILINE)
    return text.rstrip()


class DocstringSections(griffe.Extension):
    """A griffe extension that rewrites docstrings."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Rewrite the docstring of a module, class, function or constant."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **_: object) -> None:
        """Hide methods of Keras, and annotations, which docstrings replace."""
        if func.name in _OF_KERAS:
            func.docstring = None  # Such members are left out.
        for parameter in func.parameters:
            parameter.annotation = None
