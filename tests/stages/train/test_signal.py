"""What keeps a run from learning: the warnings and the stop, from rows of history and in runs with the real trainer."""

import shutil
import subprocess

import pandas as pd
import pytest
from gsm8k_grpo.config import params
from gsm8k_grpo.files import read_json
from gsm8k_grpo.stages.train.signal import SignalWatch, share_without_signal, watch
from project import ROOT
from small_run import (
    TRAIN,
    assert_same_run,
    killed_and_resumed,
    run,
    stage,
)

HEALTHY = {
    "zero_variance_share": 0.25, "clipped_share": 0.1, "entropy": 0.3, "reward": 1.0, "reward_std": 1.2,
}  # fmt: skip
# Every answer to every prompt is cut before it has a tag, so the reward of correct tagged answers is 0 for all of them.
FAILING = {"rewards": {"set": "robust", "weights": {"correctness": 1.0}}}


@pytest.fixture
def settings():
    """The default run: 16 prompts a generation, which serves 8 steps; a warning looks at 3 generations, 48 groups."""
    return params.load(ROOT / "params.yaml")


def rows(count, first=1, **changes):
    return [{"step": step} | HEALTHY | changes for step in range(first, first + count)]


def kinds(history, settings):
    return [(warning["step"], warning["kind"]) for warning in watch(history, settings).warnings]


# Warnings, from rows


def test_a_healthy_run_warns_of_nothing(settings):
    assert kinds(rows(400), settings) == []


def test_equal_rewards_in_nearly_all_groups_are_warned_of_once_when_48_groups_are_known(settings):
    history = rows(200, zero_variance_share=0.95, reward=0.02)
    assert kinds(history[:23], settings) == []
    assert kinds(history, settings) == [(24, "no_signal")]
    (warning,) = watch(history, settings).warnings
    assert "95 %" in warning["text"]
    for remedy in ("extract.one_shot", "start: sft", "train.temperature", "other rewards"):
        assert remedy in warning["text"]


def test_a_smaller_share_of_equal_groups_is_no_warning(settings):
    assert kinds(rows(200, zero_variance_share=0.85), settings) == []


def test_questions_that_have_become_too_easy_get_another_advice(settings):
    history = [*rows(80), *rows(80, first=81, zero_variance_share=1.0, reward=4.0)]
    (warning,) = watch(history, settings).warnings
    assert "too easy" in warning["text"]
    assert "start: sft" not in warning["text"]


def test_small_generations_are_looked_at_together_until_they_have_48_groups(settings):
    one_prompt = settings.model_copy(
        update={
            "train": settings.train.model_copy(update={"per_device_train_batch_size": 8, "steps_per_generation": 1})
        }
    )
    assert one_prompt.train.prompts_per_generation == 1
    assert kinds(rows(47, zero_variance_share=1.0), one_prompt) == []
    assert kinds(rows(48, zero_variance_share=1.0), one_prompt) == [(48, "no_signal")]


def test_cut_completions_are_warned_of_with_the_limit(settings):
    history = rows(100, clipped_share=0.6)
    assert kinds(history, settings) == [(24, "cut")]
    assert "train.max_completion_length (160)" in watch(history, settings).warnings[0]["text"]


@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        (0.3, 1.2, False),  # four times as much, but less than 1 nat more
        (0.3, 1.4, True),
        (2.0, 3.9, False),  # less than twice as much
        (2.0, 4.1, True),
        (0.3, 0.02, False),  # a healthy run may become this sure
        (0.3, 0.01, True),
    ],
)
def test_an_entropy_far_from_that_of_the_first_generations_is_warned_of(settings, before, after, warned):
    history = [*rows(40, entropy=before), *rows(40, first=41, entropy=after)]
    assert kinds(history, settings) == ([(64, "entropy")] if warned else [])


def test_the_surprisal_is_judged_where_no_entropy_is_logged(settings):
    history = [*rows(40, entropy=None, surprisal=0.3), *rows(40, first=41, entropy=None, surprisal=1.4)]
    assert kinds(history, settings) == [(64, "entropy")]


def test_an_entropy_that_is_an_estimate_is_not_judged(settings):
    unsloth = settings.model_copy(update={"backend": "unsloth"})
    assert kinds([*rows(40), *rows(40, first=41, entropy=9.0)], unsloth) == []


def test_a_run_read_in_two_parts_has_the_warnings_of_one_that_was_read_at_once(settings):
    history = [*rows(40, clipped_share=0.7), *rows(60, first=41, zero_variance_share=1.0)]
    resumed = watch(history[:37], settings)
    later = [warning for row in history[37:] for warning in resumed.add(row)]
    assert resumed.warnings == watch(history, settings).warnings
    assert [warning["kind"] for warning in later] == ["no_signal"]  # the other one was said before


def test_supervised_fine_tuning_has_no_groups_to_judge(settings):
    history = rows(200, zero_variance_share=None, clipped_share=None, entropy=None, reward=None, reward_std=None)
    assert kinds(history, settings) == []
    assert share_without_signal(history) is None


def test_the_share_without_signal_is_the_mean_over_the_steps():
    assert share_without_signal([*rows(3, zero_variance_share=1.0), *rows(1, zero_variance_share=0.0)]) == 0.75


# The stop, from rows


def stopping(settings, generations):
    return settings.model_copy(update={"train": settings.train.model_copy(update={"stop_without_signal": generations})})


def test_a_run_stops_at_the_end_of_the_generation_that_completes_n_without_any_signal(settings):
    watched = SignalWatch(stopping(settings, 2))
    stops = []
    for row in rows(32, zero_variance_share=1.0):
        watched.add(row)
        stops += [row["step"]] if watched.stop_reason else []
    assert stops == [16, 24, 32]
    assert "last 2 generations" in watched.stop_reason


def test_one_group_with_different_rewards_keeps_a_run_going(settings):
    history = [*rows(8, zero_variance_share=1.0), *rows(8, first=9, zero_variance_share=15 / 16)]
    assert watch(history, stopping(settings, 2)).stop_reason is None


def test_without_the_key_no_run_is_stopped(settings):
    assert settings.train.stop_without_signal is None
    assert watch(rows(80, zero_variance_share=1.0), settings).stop_reason is None


# The real trainer: 4 prompts a generation of one step, so that a warning looks at 12 steps

FEW_PROMPTS = {"train__steps_per_generation": 1, "train__sample_prompts": 1, "keep_checkpoints": "[2, 13, 20]"}


def failing(**more):
    """A run of 40 steps whose rewards are all 0, since 4 tokens are too few for an answer."""
    return FAILING | FEW_PROMPTS | {"variants__short__max_steps": 40, "train__max_completion_length": 4} | more


def metrics(folder):
    return read_json(folder / "results/train/short/metrics.json")


def notes(folder):
    return {key: metrics(folder)[key] for key in ("warnings", "stopped_at", "stop_reason", "share_without_signal")}


@pytest.fixture(scope="module")
def stopped(prepared, tmp_path_factory):
    """A folder with a run that was stopped after 14 generations without signal, and what it said."""
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("stopped") / "p")
    done = stage(folder, TRAIN, **failing(train__stop_without_signal=14))
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_a_run_without_signal_is_warned_of_and_stopped_with_its_results(stopped):
    folder, said = stopped
    found = metrics(folder)
    assert [(warning["step"], warning["kind"]) for warning in found["warnings"]] == [(12, "no_signal"), (12, "cut")]
    for warning in found["warnings"]:
        assert said.count(f"train short: step 12: {warning['text']}") == 1
    assert said.count("train short: stopped after step 14 of 40") == 1
    assert (found["steps"], found["stopped_at"], found["share_without_signal"]) == (14, 14, 1.0)
    assert found["effective_config"]["max_steps"] == 40
    assert "train.stop_without_signal: 14" in found["stop_reason"]
    assert list(pd.read_csv(folder / "results/train/short/history.csv")["step"]) == list(range(1, 15))
    assert (folder / "results/train/short/model/model.safetensors").exists()
    assert {path.name for path in (folder / "results/train/short/checkpoints").iterdir()} == {"2", "13"}


def test_a_stopped_run_is_complete_and_not_started_again(stopped, tmp_path):
    folder = shutil.copytree(stopped[0], tmp_path / "p")
    shutil.rmtree(folder / "results/train")
    again = stage(folder, TRAIN, **failing(train__stop_without_signal=14))
    assert again.returncode == 0, again.stderr
    assert "complete in " in again.stderr
    assert "steps, " not in again.stderr
    assert notes(folder) == notes(stopped[0])
    assert_same_run(
        stopped[0], folder, [f"results/train/short/{name}" for name in ("model/model.safetensors", "samples.jsonl")]
    )


def test_a_run_that_is_killed_comes_to_the_same_warnings_and_the_same_end(prepared, stopped, tmp_path):
    folder = shutil.copytree(prepared, tmp_path / "p")
    killed_and_resumed(folder, 8, **failing(train__stop_without_signal=14))
    assert notes(folder) == notes(stopped[0])


def test_a_stopped_run_is_evaluated_at_the_steps_that_it_reached(stopped, tmp_path):
    folder = shutil.copytree(stopped[0], tmp_path / "p")
    run(folder, "evaluate --model short", **failing(train__stop_without_signal=14))
    curve = pd.read_json(folder / "results/evaluate/short/checkpoints.jsonl", lines=True)
    assert list(curve["step"]) == [2, 13, 14]


def test_a_run_with_different_rewards_is_neither_warned_of_nor_stopped(prepared, tmp_path):
    """Coins, which differ in all but 1 of 128 groups of 8."""
    folder = shutil.copytree(prepared, tmp_path / "p")
    coins = {"rewards": {"set": "control", "weights": {"random": 1.0}}, "variants__short__max_steps": 16}
    settings = FEW_PROMPTS | coins | {"train__stop_without_signal": 2, "train__learning_rate": 1e-6}
    done: subprocess.CompletedProcess[str] = stage(folder, TRAIN, **settings)
    assert done.returncode == 0, done.stderr
    assert metrics(folder)["share_without_signal"] < 0.1
    kinds_of_warnings = {warning["kind"] for warning in metrics(folder)["warnings"]}
    assert kinds_of_warnings <= {"cut"}  # the base model of 6 steps rarely ends an answer
    assert metrics(folder)["stopped_at"] is None
