r"""A run whose prompt asks for `\boxed{}`: what base learns, what is rewarded and what is graded has this form."""

import pandas as pd
import pytest
from gsm8k_grpo.files import read_json, read_jsonl, write_jsonl
from gsm8k_grpo.gsm8k.answer_formats import FORMATS
from small_run import TRAIN, run

BOXED = {
    "extract.answer_form": "boxed", "extract.system": "Put the answer into a box.", "base.steps": 80,
    "base.styles": "{terse: 0, plain: 0, hurried: 0, tagged: 1}",
    "rewards": "{set: robust, weights: {format: 1, int: 1}}",
    "variants.short.max_steps": 4, "keep_checkpoints": "[]", "train.max_completion_length": 80,
    "evaluate.sets": "{own: {path: own.jsonl, comparison: math_verify}}",
    "evaluate.max_completion_length": 80,
}  # fmt: skip
OWN = ["7", r"\frac{\pi}{2}", "1,2"]


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("boxed")
    write_jsonl(folder / "own.jsonl", [{"question": f"What is {text}?", "answer": text} for text in OWN])
    return run(folder, "download", "extract", "base", TRAIN, "evaluate --model base", **BOXED)


def test_the_prompt_is_the_system_prompt_of_ones_own(boxed):
    (system, question) = read_jsonl(boxed / "results/extract/train.jsonl")[0]["prompt"]
    assert (system["content"], question["role"]) == ("Put the answer into a box.", "user")


def test_base_learned_the_form_and_its_answers_are_graded_by_it(boxed):
    answers = read_jsonl(boxed / "results/evaluate/base/answers.jsonl")
    in_form = [r"\boxed{" in answer["completion"] for answer in answers]
    assert any(in_form)
    assert [answer["format_ok"] for answer in answers] == [
        FORMATS["boxed"].well_formed(answer["completion"]) for answer in answers
    ]
    assert any(answer["format_ok"] for answer in answers)


def test_training_rewards_the_form(boxed):
    history = pd.read_csv(boxed / "results/train/short/history.csv")
    assert (history["reward_format"] > 0).any()


def test_a_set_of_formulas_has_figures_of_its_numbers_and_of_all_its_questions(boxed):
    rows = [row for row in read_json(boxed / "results/evaluate/base/metrics.json")["measures"] if row["set"] != "test"]
    counts = {(row["set"], row["metric"]): row["n"] for row in rows}
    accuracies = ("strict_accuracy", "flexible_accuracy")
    assert [counts["own", name] for name in accuracies] == [1, 1]
    assert [counts["own, math-verify", name] for name in accuracies] == [3, 3]
    assert ("own, math-verify", "harness_strict") not in counts
    golds = [row["gold"] for row in read_jsonl(boxed / "results/evaluate/base/sets/own.jsonl")]
    assert golds == OWN
