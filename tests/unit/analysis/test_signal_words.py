"""The sentences about what GRPO can learn from: only where a share is low, and about the models that it starts from."""

import pytest
from gsm8k_grpo.analysis.signal import low_signal, signal_lines, training_notes, training_signal
from gsm8k_grpo.config import params

ENOUGH = {"xmlcount": 0.8, "correctness": 0.4, "total": 0.9}
SFT = {"variants.sft": {"method": "sft", "epochs": 1}, "variants.full": {"epochs": 3, "start": "sft"}}


@pytest.fixture
def settings(root):
    return lambda **overrides: params.load(root / "params.yaml", overrides)


def evaluations(**shares_by_model):
    return {
        model: {
            "signal": [
                {"reward": name, "share": share, "ci95": [0.0, 1.0], "n": 200, "samples": 4}
                for name, share in shares.items()
            ]
        }
        for model, shares in shares_by_model.items()
    }


def trained(share, warnings=(), stopped=None):
    return {
        "share_without_signal": share,
        "warnings": list(warnings),
        "stopped_at": stopped,
        "stop_reason": stopped and "no signal",
        "effective_config": {"max_steps": 250},
    }


def test_enough_signal_needs_no_sentence(settings):
    assert low_signal(evaluations(base=ENOUGH), settings()) == []


def test_a_low_total_is_said_with_the_variants_that_start_there(settings):
    (sentence,) = low_signal(evaluations(base={"correctness": 0.01, "total": 0.05}), settings())
    assert "5.0 % of 200 prompts" in sentence
    assert "4 sampled answers of base" in sentence
    assert "short and full" in sentence


def test_form_without_right_answers_is_said_to_teach_the_form(settings):
    (sentence,) = low_signal(evaluations(base={"xmlcount": 0.9, "correctness": 0.02, "total": 0.9}), settings())
    assert "differ in the reward correctness" in sentence
    assert "the form of answers" in sentence


def test_a_model_that_only_supervised_training_starts_from_is_not_judged(settings):
    several = settings(**SFT, **{"variants.short": {"max_steps": 9, "start": "sft"}})
    found = evaluations(base={"total": 0.0}, sft=ENOUGH)
    assert low_signal(found, several) == []
    assert [line.partition(",")[0] for line in signal_lines(found, several)] == ["sft"]


def test_a_line_has_the_total_first(settings):
    (line,) = signal_lines(evaluations(base=ENOUGH), settings())
    assert line == "base, 4 answers to each of 200 prompts: total 90.0 %, correctness 40.0 %, xmlcount 80.0 %"


def test_the_share_of_a_run_without_signal_leaves_out_methods_without_groups():
    assert training_signal({"sft": trained(None)}) is None
    sentence = training_signal({"sft": trained(None), "short": trained(0.25), "full": trained(0.5)})
    assert sentence.endswith("25.0 % of short's and 50.0 % of full's.")


def test_warnings_and_a_stop_name_variant_and_step():
    warning = {"step": 24, "kind": "cut", "text": "60 % were cut"}
    lines = training_notes({"short": trained(1.0, [warning], stopped=40), "full": trained(0.1)})
    assert lines == ["short, step 24: 60 % were cut.", "short was stopped after step 40 of 250: no signal."]
