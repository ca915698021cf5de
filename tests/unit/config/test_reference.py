"""docs/params.md: what is on the page, and that the page in the repository is the one that the code writes."""

from collections.abc import Iterator
from typing import Any

import pytest
from gsm8k_grpo.config.params import load
from gsm8k_grpo.config.reference import PLACE, reference
from gsm8k_grpo.config.sections import Section
from project import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return reference(ROOT)


NAMED = ("variants", "sets")  # sections whose keys are names that the user chooses


def keys(section: dict[str, Any], named: bool = False) -> Iterator[str]:
    """The names of a configuration's keys and sections; names that the user chooses are not keys."""
    for name, value in section.items():
        if not named:
            yield name
        if isinstance(value, dict) and name != "weights":
            yield from keys(value, named=name in NAMED)


def test_the_page_in_the_repository_is_the_one_that_the_code_writes(page):
    assert (ROOT / PLACE).read_text(encoding="utf-8") == page, f"{PLACE} is stale: run `make docs`"


@pytest.mark.parametrize("recipe", ["tiny", "rtx4090"])  # tiny has the section base, rtx4090 has lora and vllm
def test_every_key_is_on_the_page(page, recipe):
    configuration = load(ROOT / "params.yaml", {"recipe": recipe}).model_dump()
    written = set(page.replace(".", "`").split("`"))
    assert set(keys(configuration)) - {"download"} <= written


@pytest.mark.parametrize(
    "row",
    [
        "| `seed` | a whole number, at least 0, below 4294967296 | `42` | Seed of all randomness: ",
        '| `source` | one of hub, local, generated | `"generated"` | Where the problems come from: ',
        "| `quantization` | 4bit, or null | `null` | 4bit loads the weights ",
        '| `dataset` | a text, not empty | `"openai/gsm8k"` | Name of the data set ',
        "| `learning_rate` | a number, above 0 | `0.0002` | Peak learning rate. |",
        "| `rank` | a whole number, at least 1, at most 512 |  | Rank of the adapters ",
    ],
)
def test_a_row_has_key_choices_the_value_in_tiny_and_the_meaning(page, row):
    assert f"\n{row}" in page


def sections(of: type[Section] = Section) -> set[type[Section]]:
    """Every class of the configuration."""
    return set(of.__subclasses__()).union(*map(sections, of.__subclasses__()))


@pytest.mark.parametrize("section", sorted(sections(), key=lambda section: section.__name__))
def test_every_key_has_a_meaning(section):
    assert [key for key, field in section.model_fields.items() if not field.description] == []


def test_every_row_of_the_page_has_a_meaning(page):
    rows = [row for row in page.splitlines() if row.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_every_section_of_the_page_is_introduced(page):
    for section in page.split("\n## ")[1:]:
        title, _, text = section.partition("\n\n")
        assert title == "Keys without a section" or not text.startswith("|"), title
