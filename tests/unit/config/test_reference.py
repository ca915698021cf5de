"""docs/params.md: what is on the page, and that the page in the repository is the one that the code gives."""

from collections.abc import Iterator
from typing import Any

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.reference import PLACE, comments, reference
from project import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return reference(ROOT)


NAMED = ("variants", "sets")  # sections whose keys are names that the user gives


def keys(section: dict[str, Any], named: bool = False) -> Iterator[str]:
    """The names of a configuration's keys, those of sections too; what a user names is no key."""
    for name, value in section.items():
        if not named:
            yield name
        if isinstance(value, dict) and name != "weights":
            yield from keys(value, named=name in NAMED)


def test_the_page_in_the_repository_is_the_one_that_the_code_gives(page):
    assert (ROOT / PLACE).read_text(encoding="utf-8") == page, f"{PLACE} is stale: give `make docs`"


@pytest.mark.parametrize("recipe", ["tiny", "rtx4090"])  # which have the sections base, and lora and vllm
def test_every_key_is_on_the_page(page, recipe):
    configuration = load(ROOT / "params.yaml", {"recipe": recipe}).model_dump()
    written = set(page.replace(".", "`").split("`"))
    assert set(keys(configuration)) - {"download"} <= written


@pytest.mark.parametrize(
    "row",
    [
        "| `seed` | a whole number, at least 0, below 4294967296 | `42` | The one source of randomness: ",
        '| `source` | one of hub, local, generated | `"generated"` | hub \\| local (a folder with ',
        "| `quantization` | 4bit, or null | `null` | see `precision` |",
        '| `dataset` | a text, not empty | `"openai/gsm8k"` | The data set, ',
        "| `learning_rate` | a number, above 0 | `0.0002` | Optimizer and schedule; ",
        "| `rank` | a whole number, at least 1, at most 512 |  |  |",
    ],
)
def test_a_row_has_key_choices_the_default_and_the_comment(page, row):
    assert f"\n{row}" in page


def test_a_key_has_a_meaning_or_its_section_explains_it(page):
    for section in page.split("\n## ")[1:]:
        introduction, _, table = section.partition("| key |")
        unexplained = [row for row in table.splitlines() if row.endswith("|  |")]
        assert not unexplained or len(introduction.splitlines()) > 1, unexplained


def test_keys_under_one_comment_point_to_the_first_and_indented_comments_are_code(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "# The head of the file.\n\n# What a and b are, for\n# example\n#     a: 1\na: 1\nb: 2\nsection:\n  c: 3\n"
        "  # What d is.\n  d: 4\ne: 5\n"  # a section ends what a comment explains
    )
    assert comments(file) == {
        ("a",): "What a and b are, for example `a: 1`",
        ("b",): "see `a`",
        ("section", "d"): "What d is.",
    }
