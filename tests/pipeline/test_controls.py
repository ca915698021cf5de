"""The control variants in the comments of params.yaml, whose rewards ignore the answer; supervised runs."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from gsm8k_grpo.config import params
from gsm8k_grpo.files import read_json, read_jsonl, write_jsonl
from gsm8k_grpo.gsm8k.rewards import TABLE
from small_run import snakemake, workflow

TAGGED = "<reasoning>\n7 x 10 + 2 = 72\n</reasoning>\n<answer>\n{answer}\n</answer>\n"
COMPLETIONS = {
    "right": TAGGED.format(answer="72"),
    "wrong": TAGGED.format(answer="71"),
    "no number": TAGGED.format(answer="seventy-two"),
    "without reasoning": "<answer>\n72\n</answer>",
    "without tags": "The answer is 72.",
}


@pytest.fixture(scope="module")
def controls(root):
    """The variants in the comment above the section `variants` of params.yaml."""
    comment = (root / "params.yaml").read_text(encoding="utf-8").partition("\nvariants:")[0].rpartition("\n\n")[2]
    lines = re.findall(r"^#     (\w+: {.*})$", comment, re.MULTILINE)
    return yaml.safe_load("\n".join(lines))


@pytest.fixture(scope="module")
def settings(root, controls):
    return params.load(root / "params.yaml", {f"variants.{name}": control for name, control in controls.items()})


def rewards(settings, variant, gold="72"):
    """The sum of a variant's weighted rewards for each of the completions."""
    chosen = settings.variant_rewards(variant)
    completions = [[{"role": "assistant", "content": text}] for text in COMPLETIONS.values()]
    state = SimpleNamespace(global_step=1)
    totals = [0.0] * len(completions)
    for name, weight in chosen.weights.items():
        scores = TABLE[chosen.set][name](completions=completions, answer=[gold] * len(completions), trainer_state=state)
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    return dict(zip(COMPLETIONS, totals, strict=True))


def test_the_headline_is_not_about_one_of_the_three_controls(settings):
    assert list(settings.variants) == ["short", "full", "control", "format", "sft"]
    assert settings.headline_variant == "full"
    assert [settings.variant_method(name) for name in settings.variants] == ["grpo"] * 4 + ["sft"]


def test_a_control_is_as_long_as_full(settings):
    lengths = {name: (variant.max_steps, variant.epochs) for name, variant in settings.variants.items()}
    assert {lengths[name] for name in ("control", "format", "sft")} == {lengths["full"]}


@pytest.mark.parametrize("variant", ["control", "format"])
def test_the_rewards_of_a_control_do_not_depend_on_the_answer(settings, variant):
    assert rewards(settings, variant, gold="72") == rewards(settings, variant, gold="5")


def test_the_format_control_rewards_every_part_of_the_format_and_no_correctness(settings):
    found = rewards(settings, "format")
    assert found["right"] == found["wrong"] == 2.0
    assert found["right"] > found["no number"] > found["without reasoning"] > found["without tags"] == 0.0
    assert set(settings.rewards.weights) - set(settings.variants["format"].rewards.weights) == {"correctness"}


def test_the_rewards_of_full_depend_on_the_answer(settings):
    found = rewards(settings, "full")
    assert found["right"] == found["wrong"] + 2.0
    assert found["right"] > rewards(settings, "full", gold="5")["right"]


def planned(folder, **config):
    """The variants that Snakemake would train."""
    process = snakemake(
        folder, "report", "--dry-run", "--config", *(f"{key}={json.dumps(value)}" for key, value in config.items())
    )
    said = process.communicate()[0]
    return sorted(set(re.findall(r"gsm8k-grpo train --variant (\w+)", said)))


def test_a_supervised_variant_is_the_start_of_grpo_and_reported_next_to_it(tmp_path):
    folder = workflow(tmp_path / "p")
    configuration = yaml.safe_load((folder / "params.yaml").read_text())
    configuration["variants"] = {"sft": {"epochs": 1, "method": "sft"}, "short": {"max_steps": 10, "start": "sft"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    process = snakemake(folder, "report")
    said = process.communicate()[0]
    assert process.returncode == 0, said

    trained = {variant: read_json(folder / f"results/train/{variant}/metrics.json") for variant in ("short", "sft")}
    assert {variant: metrics["method"] for variant, metrics in trained.items()} == {"short": "grpo", "sft": "sft"}
    assert {variant: metrics["prompts"] for variant, metrics in trained.items()} == {"short": 32, "sft": 32}
    assert trained["sft"]["prompts_seen"] == 32
    compared = read_json(folder / "results/compare/comparison.json")
    assert {(row["a"], row["b"]) for row in compared} == {("base", "sft"), ("base", "short"), ("sft", "short")}
    curve = read_jsonl(folder / "results/evaluate/sft/checkpoints.jsonl")
    assert [row["prompts_seen"] for row in curve] == [18, 32]  # after step 9, of two rows each, and at the end
    page = (folder / "results/report/report.html").read_text(encoding="utf-8")
    assert "loss on the answers (supervised)" in page
    assert 'id="starts"' in page

    assert planned(folder, variants={"short": {"max_steps": 11}}) == ["short"]
    assert planned(folder, variants={"sft": {"epochs": 2}}) == ["sft", "short"]


def test_free_answers_are_trained_with_supervised_fine_tuning_and_reported(tmp_path):
    """The settings of r1-distill-32b on local files; the last test question has no number to grade answers by."""
    folder = workflow(tmp_path / "p")
    own = folder / "own"
    for split, numbers in (("train", range(60)), ("test", range(60, 66))):
        rows = [{"question": f"What is {n} and 1?", "answer": f"It is {n + 1}.\n#### {n + 1}"} for n in numbers]
        write_jsonl(own / f"{split}.jsonl", [*rows, {"question": f"Why {split}?", "answer": "Because."}])
    configuration = yaml.safe_load((folder / "params.yaml").read_text())
    configuration |= {"method": "sft", "source": "local", "path": "own", "variants": {"own": {"max_steps": 10}}}
    configuration["extract"] |= {"answers": "free", "validation_rows": 0}
    (folder / "params.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))
    process = snakemake(folder, "report")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "extract: 1 of the 7 answers of test have no number" in said
    assert read_json(folder / "results/evaluate/own/metrics.json")["n"] == 6
    assert read_json(folder / "results/train/own/metrics.json")["prompts"] == 32
    assert (folder / "results/report/training.png").exists()
    assert not (folder / "results/report/rewards.png").exists()
