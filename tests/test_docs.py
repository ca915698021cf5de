"""README and docs/: what they link to exists, the commands they show parse, their configuration loads, their code runs.

Nothing is asked of the network: an address outside is looked at for its form alone.
"""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dvc.cli
import pytest
import stages
import typer
import yaml
from conftest import COMMAND, ROOT
from gsm8k_grpo import layers, params
from gsm8k_grpo.cli import app
from gsm8k_grpo.extract import gold_answer
from markdown_it import MarkdownIt
from markdown_it.token import Token
from snakemake.cli import get_argument_parser

PAGES = ["README.md", "CHANGELOG.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]
# Written by a run.
MADE = ("results/", "logs/", "scratch/", "tracking/")
# Written by who follows docs/howto.md.
OWN_RECIPE = "mine"
OWN_FILES = ["workflow/gsm8k_grpo/rewards/own.py", "tests/test_own.py"]
# Commands that are not the project's; what they are given is not looked at.
OTHERS = {
    ".", "apptainer", "cat", "cd", "cp", "docker", "export", "git", "head", "kill", "mkdir", "pip", "podman",
}  # fmt: skip
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")


# What stands in a page


@cache
def tokens(page: str) -> list[Token]:
    """The tokens of a page, those within paragraphs too."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse((ROOT / page).read_text(encoding="utf-8")):
        found += [token, *(token.children or [])]
    return found


def blocks(page: str, language: str) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "fence" and token.info.split() == [language]]


def inline(page: str) -> list[str]:
    return [token.content for token in tokens(page) if token.type == "code_inline"]


def anchors(page: str) -> set[str]:
    """The anchors that a forge gives the headings of a page: lower case, no punctuation, hyphens for spaces."""
    every = tokens(page)
    titles = [every[place + 1].content for place, token in enumerate(every) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def targets(page: str) -> list[str]:
    attributes = {"link_open": "href", "image": "src"}
    return [str(token.attrs[attributes[token.type]]) for token in tokens(page) if token.type in attributes]


def commands(page: str) -> list[list[str]]:
    """The commands of a page's shell blocks and those within its text, as words; output and comments are left out."""
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
            yield [word for place, word in enumerate(words) if place or word != "time"]


def examples(tool: str) -> list[Any]:
    """Every different use of a tool in the pages, for a test each."""
    uses = {" ".join(words): (page, words[1:]) for page in PAGES for words in commands(page) if words[0] == tool}
    return [pytest.param(words, id=f"{page}: {use}") for use, (page, words) in uses.items()]


# Links and places


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in targets(page):
        address = urlsplit(target)
        if address.scheme:
            assert (address.scheme, bool(address.netloc)) == ("https", True), target
            continue
        linked = (ROOT / page).parent / address.path if address.path else ROOT / page
        assert linked.exists(), f"{page} links to {target}"
        if address.fragment:
            assert address.fragment in anchors(str(linked.resolve().relative_to(ROOT))), f"{page} links to {target}"


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.splitlines()


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_file_that_is_named_is_there(page):
    folders = {name.partition("/")[0] for name in tracked() if "/" in name}
    for text in inline(page):
        if re.fullmatch(r"test_\w+\.py", text):
            assert (ROOT / "tests" / text).is_file(), f"{page} names {text}"
        beginning = text.partition("/")[0]
        if re.fullmatch(r"[\w./*-]+", text) and "/" in text and beginning in folders and text not in OWN_FILES:
            assert any(ROOT.glob(text.rstrip("/"))), f"{page} names {text}"


def test_readme_leads_to_every_page():
    assert set(PAGES) - {"README.md", "CHANGELOG.md"} <= set(targets("README.md"))


# Commands


def test_every_tool_is_known_here():
    shown = {words[0] for page in PAGES for words in commands(page)}
    assert shown <= {"gsm8k-grpo", "snakemake", "dvc", "make", "pytest", "python", "mlflow"} | OTHERS


def settle(override: str) -> tuple[str, Any]:
    """The override, with a recipe that is there for one that is the reader's."""
    key, value = layers.parse_override(override)
    readers = key == "recipe" and (value == OWN_RECIPE or PLACEHOLDER.fullmatch(value))
    return key.removeprefix("+"), "tiny" if readers else value


def check_configuration(overrides: dict[str, Any]) -> params.Params:
    """The overrides are valid, with every variant of the texts there."""
    return params.load(ROOT / "params.yaml", overrides)


@pytest.mark.parametrize("words", examples("gsm8k-grpo"))
def test_a_stage_by_hand_has_the_command_and_the_options(words):
    known = typer.main.get_command(app).commands
    if PLACEHOLDER.fullmatch(words[0]):
        return
    command = known[words[0]]
    if words[1:] in ([], ["--help"]):
        return
    context = command.make_context(words[0], words[1:])
    settings = check_configuration(dict(map(settle, context.params.get("overrides") or [])))
    assert context.params.get("variant", "short") in settings.variants
    assert context.params.get("model", "base") in settings.model_names()


@pytest.mark.parametrize("words", examples("snakemake"))
def test_a_workflow_call_has_options_targets_and_a_configuration_that_loads(words):
    given = get_argument_parser().parse_args(words)
    rules = re.findall(r"^rule (\w+):", "".join(file.read_text() for file in workflow()), re.MULTILINE)
    assert all(target in rules or target.startswith(MADE) for target in given.targets)
    assert isinstance(check_configuration(dict(map(settle, given.config or []))), params.Params)


def workflow() -> Iterator[Path]:
    yield ROOT / "Snakefile"
    yield from (ROOT / "workflow/rules").glob("*.smk")


@pytest.mark.parametrize("words", examples("dvc"))
def test_a_dvc_call_has_options_and_keys_that_load(words):
    given = dvc.cli.parse_args(words)
    assert isinstance(check_configuration(dict(map(settle, getattr(given, "set_param", None) or []))), params.Params)


@pytest.mark.parametrize("words", examples("make"))
def test_a_make_target_exists(words):
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    assert set(targets) <= set(phony)


@pytest.mark.parametrize("words", [*examples("pytest"), *examples("python")])
def test_a_script_or_a_test_that_is_run_is_there(words):
    if words[0] == "-m":
        assert words[1] == "gsm8k_grpo.reference"
        return
    file = ROOT / next(word for word in words if word.endswith(".py"))
    chosen = words[words.index("-k") + 1] if "-k" in words else ""
    assert chosen in file.read_text(encoding="utf-8")


# Configuration, rows and code


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_looked_at(page):
    kinds = {token.info for token in tokens(page) if token.type == "fence"}
    assert kinds <= {"sh", "", "yaml", "json"} | ({"python", "diff", "yaml own"} if page == "docs/howto.md" else set())


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_every_piece_of_configuration_loads(page):
    for block in blocks(page, "yaml"):
        assert check_configuration(yaml.load(block, layers.Loader)), block


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "json")])
def test_every_row_of_data_is_one(page):
    for row in (json.loads(line) for block in blocks(page, "json") for line in block.splitlines()):
        assert gold_answer(row["answer"])


@pytest.fixture(scope="module")
def with_own_rewards(tmp_path_factory) -> Path:
    """The project after what docs/howto.md says about own rewards and an own recipe."""
    folder = stages.checkout(tmp_path_factory.mktemp("own"))
    rewards = folder / "workflow/gsm8k_grpo/rewards"
    module, test = blocks("docs/howto.md", "python")
    (folder / OWN_FILES[0]).write_text(module)
    (folder / OWN_FILES[1]).write_text(test)
    table = (rewards / "__init__.py").read_text()
    for block in blocks("docs/howto.md", "diff"):
        for before, after in re.findall(r"^-(.*)\n\+(.*)$", block, re.MULTILINE):
            assert table.count(before) == 1
            table = table.replace(before, after)
    (rewards / "__init__.py").write_text(table)
    with (folder / "params.yaml").open("a") as file:
        file.write("".join(token.content for token in tokens("docs/howto.md") if token.info == "yaml own"))
    shutil.copy(params.RECIPES / "rtx3080.yaml", folder / f"workflow/recipes/{OWN_RECIPE}.yaml")
    return folder


def in_checkout(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_own_rewards_as_the_page_says_are_a_set_that_the_configuration_takes(with_own_rewards):
    done = in_checkout(with_own_rewards, COMMAND, "configure")
    assert done.returncode == 0, done.stderr
    written = layers.read(with_own_rewards / "results/configure/params.yaml")
    assert written["rewards"] == {"set": "own", "weights": {"correctness": 2.0, "brevity": 0.5}}
    tested = in_checkout(with_own_rewards, sys.executable, "-m", "pytest", "-q", "tests/test_own.py")
    assert "1 passed" in tested.stdout


def test_an_own_recipe_is_a_copy_under_another_name(with_own_rewards):
    done = in_checkout(with_own_rewards, COMMAND, "plan", "--set", f"recipe={OWN_RECIPE}", "--card", "24")
    assert done.returncode == 0, done.stderr
    assert "Llama-3.2-1B-Instruct" in done.stdout
