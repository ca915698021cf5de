"""What the report says the run does not show: each doubt where the results leave it open, none where they don't."""

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.limitations import limitations
from gsm8k_grpo.stages.report.results import read_results
from sample_results import HOSTILE, write_results

CONTROL = {"variants.control": {"max_steps": 50, "rewards": {"set": "control", "weights": {"random": 1.0}}}}
SEVERAL = {"samples": 8, "more_tests": True}


@pytest.fixture
def said(tmp_path, root):
    """What is said of results with some settings changed, and with some of their figures."""

    def of(overrides={}, changed=lambda found: None, **results):
        settings = params.load(root / "params.yaml", {"compare.resamples": 200} | overrides)
        right = {"base": (4, 25)} | dict.fromkeys(settings.variants, (30, 30))
        write_results(tmp_path / "results", settings, right, **results)
        found = read_results(tmp_path / "results", settings)
        changed(found)
        return {limit.what: limit.why for limit in limitations(found, settings)}

    return of


def test_the_default_run_leaves_these_open(said):
    assert list(said()) == [
        "Accuracy on GSM8K",
        "Reasoning beyond these templates",
        "How another run would end",
        "That it took these rewards",
        "Answers longer than 80 tokens",
        "Answers drawn by chance",
        "Other kinds of problem",
    ]


def test_what_was_done_is_no_longer_open(said):
    told = said({"source": "hub", "model": "Qwen/Qwen2.5-3B", "seeds": [43, 44]} | CONTROL, validated=False, **SEVERAL)
    assert set(told) == {
        "That the test questions were new to the model",
        "Answers longer than 80 tokens",
        "That the questions of svamp are unlike those trained on",
    }


@pytest.mark.parametrize(
    ("name", "sums"),
    [
        ("simple", "one-digit operands and results to 20"),
        ("rich", "whole numbers and results to 1000"),
    ],
)
def test_a_small_model_is_said_to_learn_the_sums_of_its_problems(said, name, sums):
    why = said({"download.generated.problems": name})["Reasoning beyond these templates"]
    assert (
        why
        == f"a model of 1,234 parameters, made from scratch, learns sums with {sums}, not word problems like GSM8K's."
    )


def test_a_small_model_on_other_problems_is_said_to_learn_the_format_at_most(said):
    told = said({"source": "local", "path": "problems"})
    assert told["That these are GSM8K's problems"] == f"they come from a local folder, “{HOSTILE}”, unchecked."
    assert told["Reasoning"].endswith("what training can change is the answers' format.")


def test_a_model_from_elsewhere_is_named_with_its_size(tmp_path, root):
    settings = params.load(root / "params.yaml", {"model": "Qwen/Qwen2.5-3B"})
    write_results(tmp_path / "results", settings)
    found = read_results(tmp_path / "results", settings)
    assert report_stage.describe_model(found, settings) == "Qwen/Qwen2.5-3B, 1,234 parameters"


def test_subsets_are_stated_with_who_used_them(said):
    def subset(found):
        for run in found.training.values():
            run["prompts"] = 16
        found.evaluations["base"]["n_available"] = 1319

    told = said(changed=subset)
    assert told["Training on all the data"] == "short and full used 16 of 32 problems."
    assert told["Accuracy on the whole test split"] == "the first 40 of 1,319 were asked."


def test_one_seed_is_named_and_several_are_not_a_limit(said):
    assert "one seed (7)" in said({"seed": 7})["How another run would end"]
    assert "How another run would end" not in said({"seed": 7, "seeds": [8]})


def test_rewards_for_the_format_alone_are_a_control(said):
    format_alone = {"max_steps": 50, "rewards": {"set": "robust", "weights": {"strict_format": 1.0, "int": 1.0}}}
    assert "That it took these rewards" not in said({"variants.format": format_alone})


def test_supervised_training_is_a_control_too(said):
    assert "That it took these rewards" not in said(supervised=("short",))


def test_few_cut_answers_are_no_limit(said):
    assert "Answers longer than 80 tokens" not in said(questions=100)  # one of 100
    assert said()["Answers longer than 80 tokens"].startswith("2.5 % of base's, 2.5 % of short's")


def test_questions_shared_with_train_are_counted(said):
    told = said(more_tests=True)["That the questions of svamp are unlike those trained on"]
    assert told == "of 40, 0 also stand in train, 1 share 13 words in a row with it."
