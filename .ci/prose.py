"""List the sentences of this project that are hard to read.

    python .ci/prose.py                       # the whole project
    python .ci/prose.py docs/story.md examples/*.py
    python .ci/prose.py --counts              # counts per file and per rule

Checks Markdown pages, docstrings, comments, strings of several words, and the
Markdown cells of notebooks. Prints `path:line: rule: text` and exits with
status 1 if a sentence matches a rule and `.ci/prose_allowed.txt` does not list
it. A pattern cannot tell whether a text is good. It finds the habits that made
earlier texts hard to read.
"""

import argparse
import ast
import bisect
import collections
import io
import itertools
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = Path(__file__).with_name("prose_allowed.txt")
MAX_WORDS = 35


def start(pattern: str) -> re.Pattern:
    """A pattern for the beginning of a sentence."""
    return re.compile(rf"^(?:{pattern})")


def words(pattern: str) -> re.Pattern:
    """A pattern for whole words anywhere in a sentence."""
    return re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)


# "No" before a noun is fine after "there is", and so is "is no longer".
IS_NO = (
    r"(?<!there )(?<!there's )\b(?:is|are|was|were|be) no\b"
    r"(?! (?:longer|more|less|fewer)\b)"
)
RULES = {
    # "is not an int", never "is no int" or "it is none".
    "is no": [
        re.compile(IS_NO, re.IGNORECASE),
        re.compile(r"\bnone\b(?! of (?:the|these|them|those)\b)"),
    ],
    # "does not support", never "takes no".
    "verb no": [
        words(
            r"(?:take|give|know|divide|say|get|draw|hold|want|find|make|bring)s?"
            r" (?:no|none|nothing)"
        ),
        words(r"no multiples? of|no \w+ of (?:it|them)"),
    ],
    # The subject is a thing that the reader knows.
    "noun clause": [
        start(r"(?:What(?:ever)?|Who(?:ever)?|Where(?:ver)?)\b(?!.*\?$)"),
        words(r"and what (?:it|they)|what (?:comes|came)|what it (?:is|was)"),
        words(r"that (?:is|are) it"),
    ],
    # Subject, verb, object.
    "inverted": [
        start(r"Of (?!course\b)"),
        start(r"(?:Not|Never) \w+(?:ed|en|un)\b|And then\b"),
        start(r"\w+ed (?:is|are|was|were) (?:the|its|all|what)\b"),
        words(r"so (?:is|are|was|were|do|does|did|has|have)"),
        words(r"says? of (?:the|them|it|its|all|others?)"),
    ],
    # Obligations and passives that hide who acts.
    "stiff": [
        words(r"(?:is|are) to be|(?:is|are) not taken|has to be"),
        words(r"as described(?! in)|breaks? (?:a|the) rule|the rule that"),
    ],
    # Words of the old style; each has a plain replacement.
    "dialect": [
        words(r"anew|alike|elsewhere|whichever|wherever|lest|hardly"),
        words(r"a must|by us|of ours|another one|besides|many replicas"),
        words(r"(?:of )?one's own|of (?:its|their) own"),
        words(r"unlike (?:numbers|sizes)|goes well|so many"),
    ],
    "term": [
        words(r"pictures?"),
        words(r"data sets?"),
    ],
    "British": [
        words(
            r"\w*(?:colour|neighbour|behaviour|favour|honour)\w*|grey\w*"
            r"|centre[ds]?|metres?|analyse[ds]?|catalogues?|licence[ds]?"
            r"|programmes?|whilst|amongst|modell\w+|(?:un)?labell\w+"
            r"|(?:de)?(?:quant|normal|initial|optim|serial|recogn|summar"
            r"|organ|regular|visual|minim|maxim|general|special|synchron"
            r"|standard|vector|parametr|categor|character|random|binar)"
            r"is(?:e|ed|es|er|ers|ing|ation|ations)"
        ),
    ],
    # A heading is what a reader looks for.
    "heading": [
        re.compile(r"^#+ (?:And|But|What|Where|Who|Mistakes|Coming)\b"),
    ],
    # Pages show results; tests assert them.
    "assert": [],
    "long": [],
}


class Sentence(NamedTuple):
    """A sentence and the line on which it begins."""

    line: int
    text: str


# --- From files to lines of prose ---------------------------------------------


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The blocks of prose in a file, each with the number of its line."""
    source = path.read_text()
    if path.suffix == ".py":
        yield from python_texts(source)
    elif path.suffix == ".ipynb":
        for cell in json.loads(source)["cells"]:
            if cell["cell_type"] == "markdown":
                yield 1, "".join(cell["source"])
    elif path.suffix == ".md":
        yield 1, source
    else:
        yield from comment_blocks(
            (number, line.strip()[1:])
            for number, line in enumerate(source.splitlines(), 1)
            if re.match(r"\s*#(?!!)", line)
        )


def python_texts(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, strings of several words, and comments."""
    tree = ast.parse(source)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(
            node,
            ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
        ) and (text := ast.get_docstring(node)):
            docstrings.add(node.body[0].value)
            yield node.body[0].lineno, text
    yield from strings(tree, docstrings)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    yield from comment_blocks(
        (token.start[0], token.string[1:])
        for token in tokens
        if token.type == tokenize.COMMENT
        and not re.match(r"# (%%|noqa|type:|ruff:|---)", token.string)
    )


def strings(node: ast.AST, skipped: set) -> Iterator[tuple[int, str]]:
    """Strings of at least four words: messages, help, labels."""
    for child in ast.iter_child_nodes(node):
        if child in skipped:
            continue
        if isinstance(child, ast.JoinedStr):
            text = "".join(
                part.value if isinstance(part, ast.Constant) else "`x`"
                for part in child.values
            )
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            text = child.value
        else:
            yield from strings(child, skipped)
            continue
        # A regular expression or code is not prose.
        if len(re.findall(r"\w+ ", text)) >= 3 and not re.search(
            r"\\[.dsw(]|\(\?|\.\*|^(import|from|def|class) ", text
        ):
            yield child.lineno, text


def comment_blocks(
    comments: Iterable[tuple[int, str]],
) -> Iterator[tuple[int, str]]:
    """Joins comments on consecutive lines."""
    block, first, last = [], 0, -1
    for number, text in comments:
        if number != last + 1 and block:
            yield first, "\n".join(block)
            block = []
        if not block:
            first = number
        block.append(text.removeprefix(" "))
        last = number
    if block:
        yield first, "\n".join(block)


# --- From prose to sentences --------------------------------------------------

# Lines that begin a paragraph: a list item, or an entry of a docstring.
ITEM = re.compile(r"\s*(?:[-*]|\d+\.) |\s*[\w*`.]+(?: \([^)]*\))?: ")
COMMANDS = r"(?:[A-Z_]+=\S+ )?(?:python|pytest|pip|export|keras-deconv|bash) "


def paragraphs(text: str) -> Iterator[list[tuple[int, str]]]:
    """Lines that belong together, numbered from 0; code is left out."""
    paragraph: list[tuple[int, str]] = []
    is_fenced = is_example = False
    for number, line in enumerate(text.splitlines()):
        bare = line.strip()
        if bare.startswith("```"):
            is_fenced = not is_fenced
        if bare.startswith(">>>"):
            is_example = True
        is_example = is_example and bool(bare)
        is_code = is_fenced or is_example or bare.startswith(("```", "--8<--"))
        is_code = is_code or bool(re.match(COMMANDS, bare))
        is_alone = is_code or not bare or bare[0] in "#|"
        if paragraph and (is_alone or ITEM.match(line)):
            yield paragraph
            paragraph = []
        if is_code or not bare:
            continue
        if bare[0] == "|":
            for one in re.split(r"(?<!\\)\|", bare.strip("|")):
                if re.search(r"[a-z]", one):
                    yield [(number, one.strip())]
        elif bare[0] == "#":
            yield [(number, bare)]
        else:
            paragraph.append((number, bare))
    if paragraph:
        yield paragraph


def sentences(text: str, first_line: int) -> Iterator[Sentence]:
    """The sentences of a text whose first line has a number in its file."""
    for paragraph in paragraphs(text):
        numbers, lines = map(list, zip(*paragraph, strict=True))
        if item := ITEM.match(lines[0]):
            lines[0] = lines[0][item.end() :]
        joined = " ".join(lines)
        # Where each line begins in the joined text.
        lengths = [len(line) + 1 for line in lines]
        starts = list(itertools.accumulate(lengths, initial=0))
        place = 0
        for part in re.split(r"(?<=[.!?])[\"')*]*\s+(?=[A-Z`\"(\[*])", joined):
            place = joined.index(part, place)
            number = numbers[bisect.bisect_right(starts, place) - 1]
            if plain := plain_text(part):
                yield Sentence(first_line + number, plain)


def plain_text(markdown: str) -> str:
    """A sentence without markup; code becomes one word."""
    text = re.sub(r"<!--.*?-->|<[^>]+>", "", markdown)
    text = re.sub(r"``.+?``|`[^`]*`", "`x`", text)
    text = re.sub(r"!?\[(.*?)\](?:\([^)]*\)|\[[^\]]*\])", r"\1", text)
    return re.sub(r"\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", "", text).strip()


# --- Rules --------------------------------------------------------------------


def broken_rules(sentence: str) -> list[str]:
    """The names of the rules that a sentence matches."""
    text = sentence.lstrip("#* (")
    found = []
    for name, patterns in RULES.items():
        # The pattern of a heading has its marks.
        searched = sentence if name == "heading" else text
        if any(pattern.search(searched) for pattern in patterns):
            found.append(name)
    if len(re.findall(r"\S*\w\S*", text)) > MAX_WORDS:
        found.append("long")
    return found


def asserts(text: str) -> Iterator[int]:
    """The lines of a page's blocks that assert something."""
    is_fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            is_fenced = not is_fenced
        elif is_fenced and re.match(r"\s*(>>> )?assert ", line):
            yield number


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, rule and sentence of everything found in a file."""
    for first_line, text in texts(path):
        for sentence in sentences(text, first_line):
            for rule in broken_rules(sentence.text):
                yield sentence.line, rule, sentence.text
    if path.suffix == ".md":
        source = path.read_text()
        for number in asserts(source):
            line = source.splitlines()[number - 1].strip()
            yield number, "assert", line


class Allowed(NamedTuple):
    """A line of the allow list: `path | rule | words | reason`."""

    path: str
    rule: str
    words: str
    reason: str

    def covers(self, path: str, rule: str, text: str) -> bool:
        return (
            self.path in ("*", path)
            and self.rule in ("*", rule)
            and self.words in text
        )


def read_allowed(text: str) -> list[Allowed]:
    """The entries of an allow list; a line of it ends the script if wrong."""
    entries = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            fields = [field.strip() for field in line.split("|")]
            if len(fields) != 4 or not fields[3]:
                raise SystemExit(f"{ALLOWED}: not four fields: {line}")
            entries.append(Allowed(*fields))
    return entries


def project_files() -> list[Path]:
    """The tracked files that hold texts."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    suffixes = (".md", ".py", ".ipynb", ".yml", ".yaml", ".cfg", ".toml")
    return [
        ROOT / name
        for name in listed
        if name.endswith(suffixes) or name == ".ci/run"
    ]


def main() -> int:
    """Print what was found; return 0 if nothing remains to be done."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths", nargs="*", type=Path, help="default: all tracked files"
    )
    parser.add_argument(
        "--counts", action="store_true", help="print only the counts"
    )
    options = parser.parse_args()
    allowed = read_allowed(ALLOWED.read_text()) if ALLOWED.exists() else []
    used = set()
    by_file, by_rule = collections.Counter(), collections.Counter()
    for path in options.paths or project_files():
        name = str(path.resolve().relative_to(ROOT))
        for line, rule, text in sorted(findings(path)):
            entries = [a for a in allowed if a.covers(name, rule, text)]
            used.update(entries)
            if entries:
                continue
            by_file[name] += 1
            by_rule[rule] += 1
            if not options.counts:
                print(f"{name}:{line}: {rule}: {text}")
    for counts in (by_file, by_rule):
        print()
        for name, count in counts.most_common():
            print(f"{count:6} {name}")
    print(f"{by_rule.total():6} in all")
    unused = [] if options.paths else [a for a in allowed if a not in used]
    for entry in unused:
        print(f"{ALLOWED.name}: matches no sentence: {entry}")
    return 1 if by_rule or unused else 0


if __name__ == "__main__":
    sys.exit(main())
