"""The pages: what they link to exists, the commands they show parse, their configuration loads, their code runs.

The network is not used: of an address outside only the form is checked.
"""

import json
import os
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
from gsm8k_grpo.cli.app import app
from gsm8k_grpo.commands.summary import summary
from gsm8k_grpo.config import layers, params
from gsm8k_grpo.config.overrides import parse_override
from gsm8k_grpo.files import write_text
from gsm8k_grpo.gsm8k.answers import gold_answer
from pages import FOLDER_PAGES, OWN_FILES, OWN_RECIPE, PAGES, anchors, blocks, commands, inline, targets, tokens
from project import ROOT
from snakemake.cli import get_argument_parser

# Folders that a run writes.
WRITTEN = ("results/", "logs/", "checkpoints/", ".work/", "tracking/")
# Commands that are not the project's; their arguments are not checked.
OTHERS = {
    ".", "apptainer", "cat", "cd", "cp", "docker", "export", "git", "head", "kill", "kubectl", "mkdir", "pip", "podman",
    "sbatch",
}  # fmt: skip
PACKAGE = ROOT / "workflow/gsm8k_grpo"
OWN_PATHS = [*OWN_FILES, f"workflow/recipes/{OWN_RECIPE}.yaml"]
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")


def examples(tool: str) -> list[Any]:
    """Every different use of a tool in the pages, for a test each."""
    uses = {" ".join(words): (page, words[1:]) for page in PAGES for words in commands(page) if words[0] == tool}
    return [pytest.param(words, id=f"{page}: {use}") for use, (page, words) in uses.items()]


# Links and places


@pytest.mark.parametrize("page", [*PAGES, *FOLDER_PAGES])
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
    """A path begins at the repository's top level, or at a room of the package."""
    folders = {name.partition("/")[0]: ROOT for name in tracked() if "/" in name}
    rooms = {room.name: PACKAGE for room in PACKAGE.iterdir() if room.is_dir()}
    for text in inline(page):
        if re.fullmatch(r"test_\w+\.py", text):
            assert list((ROOT / "tests").rglob(text)), f"{page} names {text}"
        root = (rooms | folders).get(text.partition("/")[0])
        if root and re.fullmatch(r"[\w./*-]+", text) and "/" in text and text not in OWN_PATHS and not named(text):
            assert any(root.glob(text.rstrip("/"))), f"{page} names {text}"


def named(path: str) -> bool:
    """Whether a path has a placeholder, such as `stages/NAME/stage.py`."""
    return any(PLACEHOLDER.fullmatch(part.partition(".")[0]) for part in path.split("/") if part != "README.md")


def test_readme_leads_to_every_page():
    assert set(PAGES) - {"README.md"} <= set(targets("README.md"))


def test_readme_says_what_each_folder_of_the_top_level_holds():
    folders = {f"{name.partition('/')[0]}/" for name in tracked() if "/" in name}
    assert folders <= set(inline("README.md"))


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


# Commands


def test_every_tool_is_known_here():
    shown = {words[0] for page in PAGES for words in commands(page)}
    assert shown <= {"gsm8k-grpo", "snakemake", "dvc", "make", "pytest", "python", "mlflow"} | OTHERS


def settle(override: str) -> tuple[str, Any]:
    """The override, with an existing recipe in place of the reader's own."""
    key, value = parse_override(override)
    is_readers = key == "recipe" and (value == OWN_RECIPE or PLACEHOLDER.fullmatch(value))
    return key.removeprefix("+"), "tiny" if is_readers else value


def check_configuration(overrides: dict[str, Any]) -> params.Params:
    """The configuration with these overrides, which must be valid."""
    return params.load(ROOT / "params.yaml", overrides)


@pytest.mark.parametrize("words", examples("gsm8k-grpo"))
def test_a_stage_by_hand_has_the_command_and_the_options(words):
    if PLACEHOLDER.fullmatch(words[0]):
        return
    command = typer.main.get_command(app).commands[words[0]]
    assert not command.hidden
    if words[1:] in ([], ["--help"]):
        return
    context = command.make_context(words[0], words[1:])
    settings = check_configuration(dict(map(settle, context.params.get("overrides") or [])))
    assert context.params.get("variant", "short") in settings.variants
    assert context.params.get("model", "base") in settings.model_names()


@pytest.mark.parametrize("words", examples("snakemake"))
def test_a_workflow_call_has_options_targets_and_a_configuration_that_loads(words):
    arguments = get_argument_parser().parse_args(words)
    rules = re.findall(r"^rule (\w+):", "".join(file.read_text() for file in workflow()), re.MULTILINE)
    assert all(target in rules or target.startswith(WRITTEN) for target in arguments.targets)
    assert isinstance(check_configuration(dict(map(settle, arguments.config or []))), params.Params)


def workflow() -> Iterator[Path]:
    yield ROOT / "Snakefile"
    yield from (ROOT / "workflow/rules").glob("*.smk")


@pytest.mark.parametrize("words", examples("dvc"))
def test_a_dvc_call_has_options_and_keys_that_load(words):
    arguments = dvc.cli.parse_args(words)
    overrides = dict(map(settle, getattr(arguments, "set_param", None) or []))
    assert isinstance(check_configuration(overrides), params.Params)


@pytest.mark.parametrize("words", examples("make"))
def test_a_make_target_exists(words):
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    targets = [word for word in words if "=" not in word and not word.startswith("-")]
    assert set(targets) <= set(phony)


def test_make_clean_removes_no_record_of_the_results():
    # `make test` hands its own flags to every make below it, which then also prints the folder that it enters.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    cleaned = subprocess.run(["make", "-n", "clean"], cwd=ROOT, env=outside, capture_output=True, text=True, check=True)
    assert cleaned.stdout.split() == ["rm", "-rf", ".venv", ".venv-cuda"]


@pytest.mark.parametrize("words", [*examples("pytest"), *examples("python")])
def test_a_script_or_a_test_that_is_run_is_there(words):
    if words[0] == "-m":
        assert words[1] in ("gsm8k_grpo", "gsm8k_grpo.config.reference")
        return
    file = ROOT / next(word for word in words if word.endswith(".py"))
    chosen = words[words.index("-k") + 1] if "-k" in words else ""
    assert chosen in file.read_text(encoding="utf-8")


# Configuration, rows and code


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_of_a_kind_that_is_checked(page):
    kinds = {token.info for token in tokens(page) if token.type == "fence"}
    followed = {"python", "diff", "yaml own", "yaml recipe"} if page == "docs/howto.md" else set()
    assert kinds <= {"sh", "", "yaml", "json", "mermaid"} | followed


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")])
def test_every_piece_of_configuration_loads(page):
    for block in blocks(page, "yaml"):
        assert check_configuration(layers.parse(block)), block


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "json")])
def test_every_row_of_data_has_a_gold_answer(page):
    for row in (json.loads(line) for block in blocks(page, "json") for line in block.splitlines()):
        assert gold_answer(row["answer"])


def test_each_arrow_of_the_diagrams_is_between_stages():
    """The diagrams in README and architecture name every stage, and besides them only the configuration."""
    stages = {folder.name for folder in (PACKAGE / "stages").iterdir() if (folder / "stage.py").is_file()}
    for page in ("README.md", "docs/architecture.md"):
        (diagram,) = blocks(page, "mermaid")
        lines = [re.sub(r'\|"[^"]*"\||\(\[.*?\]\)', "", line) for line in diagram.splitlines() if "-->" in line]
        nodes = {node.strip() for line in lines for node in re.split("-->|&", line)}
        assert nodes - {"configuration"} == stages


# What the tutorial shows, against the figures that docs/benchmarks.md has of the default run


def right_answers(page: str) -> dict[str, tuple[int, int]]:
    """The number of strictly and flexibly right answers of 500 by model, from a page's first table of accuracies."""
    rows = re.findall(
        r"^\| (base|short|full)[^|]*\| ([\d.]+) % \([^|]+\| ([\d.]+) % ",
        (ROOT / page).read_text(encoding="utf-8"),
        re.MULTILINE,
    )[:3]
    return {model: (round(5 * float(strict)), round(5 * float(flexible))) for model, strict, flexible in rows}


def test_the_summary_in_the_tutorial_is_what_the_command_prints_for_those_figures(tmp_path):
    settings = check_configuration({})
    sample_results.write_results(tmp_path, settings, right_answers("docs/benchmarks.md"), questions=500)
    write_text(tmp_path / "report/report.html", "")
    printed = [line.rstrip() for line in summary(tmp_path, settings).splitlines()]
    shown = next(block for block in blocks("docs/tutorial.md", "") if "accuracy on 500 questions" in block)
    assert shown.splitlines() == printed[: len(shown.splitlines())]


def test_the_table_in_readme_has_the_figures_of_the_benchmarks():
    assert right_answers("README.md") == right_answers("docs/benchmarks.md")
