"""dvc.yaml agrees with the code: every stage depends on what it imports, and on the keys that its rule looks up."""

import re
from pathlib import Path

import pytest
import yaml
from gsm8k_grpo.config.stage_keys import KEYS
from gsm8k_grpo.runtime.imports import import_closure
from project import ROOT

PACKAGE = ROOT / "workflow/gsm8k_grpo"
CONFIGURATION = "results/configure/params.yaml"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = {name: stage.get("do", stage) for name, stage in STAGES.items()}
MODULES = [name for name in STAGES if name not in ("evaluate_base", "train_seed", "evaluate_seed")]
# Rooms that can't change a stage's results: MLflow's copies, signals, locks and progress, the memory plan and the types
# of rows.
WITHOUT_EFFECT = {"tracking", "runtime", "memory", "records"}
FURTHER_MODULES = {"extract": ["sets"]}  # modules that the command of a stage calls as well


def closure(stage: str) -> set[Path]:
    """The package's modules that a stage runs, without those of rooms without effect."""
    without = frozenset(WITHOUT_EFFECT | (set() if stage == "configure" else {"config"}))
    modules = ["stage", *FURTHER_MODULES.get(stage, [])]
    return set().union(*(import_closure(PACKAGE / "stages" / stage / f"{module}.py", without) for module in modules))


def sources(stage: str) -> list[Path]:
    """Those of a stage's dependencies that are files or folders of the package."""
    return [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith("workflow/gsm8k_grpo/")]


@pytest.mark.parametrize("stage", MODULES)
def test_a_stage_depends_on_the_modules_that_it_imports_its_rule_and_the_lock_file(stage):
    imported = closure(stage)
    assert [file for file in imported if not any(file.is_relative_to(source) for source in sources(stage))] == []
    assert [source for source in sources(stage) if not any(file.is_relative_to(source) for file in imported)] == []
    assert {"envs/cpu.txt", f"workflow/rules/{stage}.smk"} <= set(STAGES[stage]["deps"])


def test_training_depends_on_two_modules_that_it_does_not_import():
    """A dependency on a whole folder of a room can include modules that are not imported; these are all of them."""
    folders = {file for source in sources("train") for file in source.rglob("*.py")}
    further = {file for file in folders - closure("train") - set(sources("train")) if file.name != "__init__.py"}
    assert {str(file.relative_to(PACKAGE)) for file in further} == {
        "models/transformers_engine.py",
        "models/sharded_engine.py",
    }


def rules(stage: str) -> str:
    """The text of the rules that a stage of DVC runs."""
    texts = re.split(r"^(?:use )?rule ", (ROOT / f"workflow/rules/{stage}.smk").read_text(), flags=re.MULTILINE)
    run = STAGES[stage]["cmd"].partition("${run} ")[2].partition(" -- ")[0].split()
    return "".join(text for text in texts if text.partition(":")[0] in run)


@pytest.mark.parametrize("stage", [stage for stage in MODULES if stage not in ("configure", "report")])
def test_the_parameters_of_a_stage_are_the_lookups_of_its_rule(stage):
    looked_up = {path.replace("/", ".") for path in re.findall(r'lookup\(dpath="([^"]+)"', rules(stage))}
    keys = STAGES[stage]["params"][0][CONFIGURATION]
    assert sorted(keys) == sorted(path.replace("{variant}", "${key}") for path in looked_up)


@pytest.mark.parametrize("rule", KEYS)
def test_the_keys_that_a_result_notes_are_the_lookups_of_its_rule(rule):
    texts = (ROOT / f"workflow/rules/{rule.removesuffix('_sets')}.smk").read_text()
    (text,) = (text for text in re.split(r"^rule ", texts, flags=re.MULTILINE) if text.startswith(f"{rule}:"))
    looked_up = {path.replace("/", ".") for path in re.findall(r'lookup\(dpath="([^"]+)"', text)}
    assert set(KEYS[rule]) == {path.replace("{variant}", "{name}") for path in looked_up}


@pytest.mark.parametrize("stage", MODULES)
def test_the_outs_of_a_stage_contain_the_outputs_of_its_rule(stage):
    outputs = "".join(re.findall(r"output:(.*?)log:", rules(stage), flags=re.DOTALL))
    made = [re.sub(r"{+(model|variant)}+", "${key}", path) for path in re.findall(r'"(results/[^"]+)"', outputs)]
    outs = STAGES[stage]["outs"] + STAGES[stage].get("metrics", [])
    assert made
    assert [path for path in made if not any(path == out or path.startswith(f"{out}/") for out in outs)] == []


def test_base_is_evaluated_like_the_variants():
    of_base, of_variants = STAGES["evaluate_base"], STAGES["evaluate"]
    assert of_base["params"] == of_variants["params"]
    assert [dep for dep in of_base["deps"] if dep != "results/base/base.json"] == [
        dep for dep in of_variants["deps"] if not dep.startswith("results/train/")
    ]
    assert of_base["outs"] == [out.replace("${key}", "base") for out in of_variants["outs"]]


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_further_seeds_are_trained_and_evaluated_like_the_first(stage):
    of_first, of_further = STAGES[stage], STAGES[f"{stage}_seed"]
    assert of_further["matrix"] == {"variant": "${variants}", "seed": "${seeds}"}
    as_further = yaml.safe_load(yaml.safe_dump(of_first).replace("${key}", "${item.variant}_s${item.seed}"))
    assert {key: of_further[key] for key in of_first if key != "desc"} == {
        key: value for key, value in as_further.items() if key != "desc"
    }
