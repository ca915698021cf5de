"""docs/howto.md followed to the letter: own rewards and an own recipe in a copy of the project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import small_run
from gsm8k_grpo.config import layers
from pages import OWN_FILES, OWN_RECIPE, blocks
from project import COMMAND

PAGE = "docs/howto.md"


@pytest.fixture(scope="module")
def with_own_rewards(tmp_path_factory) -> Path:
    """The project after what docs/howto.md says about own rewards and an own recipe."""
    folder = small_run.checkout(tmp_path_factory.mktemp("own"))
    rewards = folder / "workflow/gsm8k_grpo/gsm8k/rewards"
    module, test = blocks(PAGE, "python")
    (folder / OWN_FILES[0]).write_text(module)
    (folder / OWN_FILES[1]).write_text(test)
    table = (rewards / "__init__.py").read_text()
    for block in blocks(PAGE, "diff"):
        for before, after in re.findall(r"^-(.*)\n\+(.*)$", block, re.MULTILINE):
            assert table.count(before) == 1
            table = table.replace(before, after)
    (rewards / "__init__.py").write_text(table)
    with (folder / "params.yaml").open("a") as file:
        file.write("".join(blocks(PAGE, "yaml own")))
    (folder / f"workflow/recipes/{OWN_RECIPE}.yaml").write_text("".join(blocks(PAGE, "yaml recipe")))
    return folder


def in_checkout(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder / "workflow")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_own_rewards_as_the_page_says_are_a_set_that_the_configuration_takes(with_own_rewards):
    done = in_checkout(with_own_rewards, COMMAND, "configure")
    assert done.returncode == 0, done.stderr
    written = layers.read(with_own_rewards / "results/configure/params.yaml")
    assert written["rewards"] == {"set": "own", "weights": {"correctness": 2.0, "brevity": 0.5}}
    tested = in_checkout(with_own_rewards, sys.executable, "-m", "pytest", "-q", OWN_FILES[1])
    assert "1 passed" in tested.stdout


def test_an_own_recipe_has_the_model_of_the_recipe_it_extends_and_its_own_adapters(with_own_rewards):
    done = in_checkout(with_own_rewards, COMMAND, "plan", "--set", f"recipe={OWN_RECIPE}", "--gpu-gib", "24")
    assert done.returncode == 0, done.stderr
    assert "Llama-3.2-1B-Instruct" in done.stdout
    assert "adapter" in done.stdout
