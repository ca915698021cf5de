"""What README, CONTRIBUTING and docs/ contain: links, commands and blocks of code, for the tests of the pages."""

import itertools
import re
import shlex
from collections.abc import Iterator
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.token import Token
from project import ROOT

PAGES = [
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
]  # fmt: skip
# The few lines that say what a folder holds.
FOLDER_PAGES = sorted(f"{page.parent.name}/README.md" for page in ROOT.glob("[a-z]*/README.md"))
# What the reader of docs/howto.md writes.
OWN_RECIPE = "mine"
OWN_FILES = ["workflow/gsm8k_grpo/gsm8k/rewards/own.py", "tests/unit/gsm8k/test_own.py"]


@cache
def tokens(page: str) -> list[Token]:
    """The tokens of a page, those within paragraphs too."""
    every = []
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8")):
        every += [token, *(token.children or [])]
    return every


def blocks(page: str, language: str) -> list[str]:
    """The blocks of code in a language; "" is the language of output."""
    return [token.content for token in tokens(page) if token.type == "fence" and token.info == language]


def inline(page: str) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def anchors(page: str) -> set[str]:
    """The anchors that a forge gives the headings of a page: lower case, no punctuation, hyphens for spaces."""
    every = tokens(page)
    titles = [every[index + 1].content for index, token in enumerate(every) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def targets(page: str) -> list[str]:
    attributes = {"link_open": "href", "image": "src"}
    return [str(token.attrs[attributes[token.type]]) for token in tokens(page) if token.type in attributes]


def commands(page: str) -> list[list[str]]:
    """The commands in a page's shell blocks and within its text, as words, without output and comments."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    lines += [line[2:] for block in blocks(page, "") for line in block.splitlines() if line.startswith("$ ")]
    lines += [
        text for text in inline(page) if re.match(r"(time )?(gsm8k-grpo|snakemake|dvc|make|pytest|python) ", text)
    ]
    return [words for line in lines for words in split(line)]


def split(line: str) -> Iterator[list[str]]:
    """The words of each command in a line, without `time` and without comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for operator, words in itertools.groupby(lexer, lambda word: word in ("&&", ";")):
        if not operator:
            yield [word for index, word in enumerate(words) if index or word != "time"]
