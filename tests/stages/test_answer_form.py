r"""A run whose prompt asks for `\boxed{}`: what base learns, what is rewarded and what is graded has this form."""

import pandas as pd
import pytest
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.gsm8k.answer_formats import FORMATS
from small_run import TRAIN, run

BOXED = {
    "extract.answer_form": "boxed", "extract.system": "Put the answer into a box.", "base.steps": 80,
    "base.styles": "{terse: 0, plain: 0, hurried: 0, tagged: 1}", "rewards": "{set: robust, weights: {format: 1, int: 1}}",
    "variants.short.max_steps": 4, "keep_checkpoints": "[]", "train.max_completion_length": 80, "evaluate.sets": "{}",
    "evaluate.max_completion_length": 80,
}  # fmt: skip


@pytest.fixture(scope="module")
def boxed(tmp_path_factory):
    return run(tmp_path_factory.mktemp("boxed"), "download", "extract", "base", TRAIN, "evaluate --model base", **BOXED)


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
