"""What the report says the run does not show: each limitation appears only if the results have it."""

import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.gsm8k.problems import SETS
from gsm8k_grpo.stages.report import stage as report_stage
from gsm8k_grpo.stages.report.limitations import limitations
from gsm8k_grpo.stages.report.results import read_results
from sample_results import HOSTILE, write_results

CONTROL = {"variants.control": {"max_steps": 50, "rewards": {"set": "control", "weights": {"random": 1.0}}}}
SEVERAL = {"samples": 8, "more_tests": True}
ONE_SEED = "How results vary between runs"
NO_CONTROL = "That the rewards caused the difference"
TRUNCATED = "Answers longer than 80 tokens"
OVERLAP = "That the questions of svamp differ from those trained on"


@pytest.fixture
def limits(tmp_path, root):
    """The limitations of results after changes to settings and figures: `why` by `what`."""

    def of(overrides={}, change=lambda results: None, **kinds):
        settings = params.load(root / "params.yaml", {"compare.resamples": 200} | overrides)
        right = {"base": (4, 25)} | dict.fromkeys(settings.variants, (30, 30))
        write_results(tmp_path / "results", settings, right, **kinds)
        results = read_results(tmp_path / "results", settings)
        change(results)
        return {limitation.what: limitation.why for limitation in limitations(results, settings)}

    return of


def test_the_default_run_leaves_these_open(limits):
    assert list(limits()) == [
        "Accuracy on GSM8K",
        "Reasoning beyond these templates",
        ONE_SEED,
        NO_CONTROL,
        TRUNCATED,
        "Accuracy of sampled answers",
        "Other kinds of problem",
    ]


def test_a_run_with_seeds_control_samples_and_test_sets_leaves_less_open(limits):
    overrides = {"source": "hub", "model": "Qwen/Qwen2.5-3B", "seeds": [43, 44]} | CONTROL
    assert set(limits(overrides, validated=False, **SEVERAL)) == {
        "That the test questions were new to the model",
        TRUNCATED,
        OVERLAP,
    }


@pytest.mark.parametrize("name", ["simple", "rich"])
def test_a_small_model_learns_only_the_sums_of_its_problems(limits, name):
    why = limits({"download.generated.problems": name})["Reasoning beyond these templates"]
    assert "1,234 parameters" in why
    assert SETS[name].SUMS in why
    assert "not word problems like GSM8K's" in why


def test_a_small_model_on_other_problems_learns_the_format_at_most(limits):
    by_what = limits({"source": "local", "path": "problems"})
    assert HOSTILE in by_what["That these are GSM8K's problems"]
    assert "only change its answers' format" in by_what["Reasoning"]


def test_what_a_pretrained_model_knows_by_heart_is_said_if_it_was_measured(limits):
    new = "That the test questions were new to the model"
    assert "word for word" not in limits({"model": "Qwen/Qwen2.5-3B"})[new]
    assert limits({"model": "Qwen/Qwen2.5-3B"}, probed=True)[new].endswith(
        "contain them; it continues 10.0 % of them word for word from the first half."
    )


def test_a_model_from_the_hub_is_named_with_its_size(tmp_path, root):
    settings = params.load(root / "params.yaml", {"model": "Qwen/Qwen2.5-3B"})
    write_results(tmp_path / "results", settings)
    results = read_results(tmp_path / "results", settings)
    assert report_stage.describe_model(results, settings) == "Qwen/Qwen2.5-3B, 1,234 parameters"


def test_subsets_are_stated_with_the_variants_that_used_them(limits):
    def subset(results):
        for run in results.training.values():
            run["prompts"] = 16
        results.evaluations["base"]["n_available"] = 1319

    by_what = limits(change=subset)
    assert by_what["Training on all the data"] == "short and full used 16 of 32 problems."
    why = by_what["Accuracy on the whole test split"]
    assert "first 40 of" in why
    assert "1,319" in why


def test_one_seed_is_a_limitation_and_several_are_not(limits):
    assert "one seed (7)" in limits({"seed": 7})[ONE_SEED]
    assert ONE_SEED not in limits({"seed": 7, "seeds": [8]})


def test_rewards_for_the_format_alone_are_a_control(limits):
    format_alone = {"max_steps": 50, "rewards": {"set": "robust", "weights": {"strict_format": 1.0, "int": 1.0}}}
    assert NO_CONTROL not in limits({"variants.format": format_alone})


def test_supervised_training_is_a_control_too(limits):
    assert NO_CONTROL not in limits(supervised=("short",))


def test_few_truncated_answers_are_no_limitation(limits):
    assert TRUNCATED not in limits(questions=100)  # one of 100
    why = limits()[TRUNCATED]
    assert "2.5 % of base's" in why
    assert "2.5 % of short's" in why


def test_questions_shared_with_train_are_counted(limits):
    why = limits(more_tests=True)[OVERLAP]
    assert all(count in why for count in ("40", "0 are also in the train split", "1 share", "13 consecutive words"))


def test_supervised_fine_tuning_is_no_control_of_the_variant_that_starts_from_it(limits):
    assert NO_CONTROL not in limits(supervised=("short",))
    assert NO_CONTROL in limits({"variants.full.start": "short"}, supervised=("short",))
