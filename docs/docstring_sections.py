"""Lets the reference show the docstrings as they are written.

griffe, which reads them, knows fewer sections and takes what stands before a
colon for a type.
"""

import re
import textwrap

import griffe

# As written in the docstrings, and as griffe knows it.
_RENAMED = {
    "Call arguments": "Other Parameters: Call arguments",
    "Example": "Examples:",
}
# Methods that do what Keras says they do.
_OF_KERAS = ("get_config", "call")
# Sections of text: a heading, and paragraphs.
_TEXT = re.compile(
    r"^(Returns|Input shape|Output shape|Edge cases):\n((?:    .*\n|\n)+)",
    re.MULTILINE,
)


def rewritten(text: str) -> str:
    """A docstring with the sections that griffe shows well."""
    text = _TEXT.sub(
        lambda match: f"**{match[1]}:**\n\n{textwrap.dedent(match[2])}",
        text + "\n",
    )
    for name, known in _RENAMED.items():
        text = re.sub(f"^{name}:$", known, text, flags=re.MULTILINE)
    return text.rstrip()


class DocstringSections(griffe.Extension):
    """Rewrites docstrings that have been read."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Takes a module, a class, a function or a constant."""
        if obj.docstring:
            obj.docstring.value = rewritten(obj.docstring.value)

    def on_function(self, *, func: griffe.Function, **_: object) -> None:
        """Leaves out what Keras calls, and annotations: docstrings say more."""
        if func.name in _OF_KERAS:
            func.public = False
        for parameter in func.parameters:
            parameter.annotation = None
