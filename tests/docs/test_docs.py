"""README and docs/: what they link to exists, the commands they show parse, their configuration loads, their code runs.

Nothing is asked of the network: an address outside is looked at for its form alone.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dvc.cli
import pytest
import sample_results
import typer
import yaml
from gsm8k_grpo.cli import app
from gsm8k_grpo.commands.summary import summary
from gsm8k_grpo.config import layers, params
from gsm8k_grpo.files import write_text
from gsm8k_grpo.gsm8k.answers import gold_answer
from pages import OWN_FILES, OWN_RECIPE, PAGES, anchors, blocks, commands, inline, targets, tokens
from project import ROOT
from snakemake.cli import get_argument_parser

# Written by a run.
MADE = ("results/", "logs/", "checkpoints/", ".work/", "tracking/")
# Commands that are not the project's; what they are given is not looked at.
OTHERS = {
    ".", "apptainer", "cat", "cd", "cp", "docker", "export", "git", "head", "kill", "mkdir", "pip", "podman",
}  # fmt: skip
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")


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
        assert words[1] == "gsm8k_grpo.config.reference"
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


# What the tutorial shows, against the figures that docs/benchmarks.md has of the default run


def right_answers(page: str) -> dict[str, tuple[int, int]]:
    """The strictly and flexibly right answers of each model, of 500, as a page's first table of accuracies says."""
    rows = re.findall(
        r"^\| (base|short|full)[^|]*\| ([\d.]+) % \([^|]+\| ([\d.]+) % ",
        (ROOT / page).read_text(encoding="utf-8"),
        re.MULTILINE,
    )[:3]
    return {model: (round(5 * float(strict)), round(5 * float(flexible))) for model, strict, flexible in rows}


def test_the_terminals_answer_in_the_tutorial_is_what_summary_says_of_those_figures(tmp_path):
    settings = check_configuration({})
    sample_results.write_results(tmp_path, settings, right_answers("docs/benchmarks.md"), questions=500)
    write_text(tmp_path / "report/report.html", "")
    said = [line.rstrip() for line in summary(tmp_path, settings).splitlines()]
    shown = next(block for block in blocks("docs/tutorial.md", "") if "accuracy on 500 questions" in block)
    assert shown.splitlines() == said[: len(shown.splitlines())]


def test_readmes_table_has_the_figures_of_the_benchmarks():
    assert right_answers("README.md") == right_answers("docs/benchmarks.md")
