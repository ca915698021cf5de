"""The stage evaluate, run on a few questions: tasks, kept checkpoints, and the learning curve."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from chats import Settings
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_jsonl
from gsm8k_grpo.gsm8k.answers import same_answer
from gsm8k_grpo.gsm8k.lm_eval import strict_answer
from gsm8k_grpo.gsm8k.prompts import trained_format
from gsm8k_grpo.models import trained
from gsm8k_grpo.stages.evaluate.stage import evaluate
from project import COMMAND, ROOT, TRANSFORMERS

# A base model that learns only short tagged answers has the format of some of them after a few steps.  With twice this
# learning rate the 8 steps of training would unlearn it, on some processors and not on others.
FEW = [
    *(f"{key}={value}" for key, value in TRANSFORMERS.items()),
    "threads=1", "download.generated.train_rows=60", "download.generated.test_rows=12", "extract.validation_rows=12",
    "base.steps=60", "base.styles={terse: 0, plain: 0, hurried: 1, tagged: 0}", "base.drills=0",
    "train.prompts=32", "train.max_completion_length=24", "train.save_steps=4", "train.sample_prompts=2",
    "train.per_device_train_batch_size=32", "train.steps_per_generation=4", "train.learning_rate=1e-3",
    "variants.short.max_steps=8", "keep_checkpoints=[4]", "compare.resamples=100",
    "evaluate.max_completion_length=60", "evaluate.questions=12", "evaluate.prompts=[plain, 4-shot]",
    "base.architecture.context=1024", "evaluate.samples=4", "evaluate.sampled_questions=6",
    "evaluate.sets={longer: {generated: {problems: longer, rows: 6}}}",
]  # fmt: skip
STEP_OF = {"base": 0, "short@4": 4, "short": 8}
COMPARED = ("n", "strict_accuracy", "flexible_accuracy", "format_rate", "mean_completion_tokens")


def attempt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command; settings among the arguments override FEW."""
    shutil.copy(ROOT / "params.yaml", folder)
    stage = [word for word in arguments if "=" not in word]
    settings = [*FEW, *(word for word in arguments if "=" in word)]
    command = [COMMAND, *stage, *(word for setting in settings for word in ("--set", setting))]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)


def run(folder: Path, *arguments: str) -> None:
    done = attempt(folder, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """Base, short and short@4 are evaluated; the first test questions are those of the validation split."""
    folder = tmp_path_factory.mktemp("evaluated")
    run(folder, "download")
    run(folder, "extract")
    test = folder / "results/extract/test.jsonl"
    write_jsonl(test, read_jsonl(test.with_name("validation.jsonl")) + read_jsonl(test))
    run(folder, "base")
    run(folder, "train", "--variant", "short")
    for model in ("base", "short", "short@4"):
        run(folder, "evaluate", "--model", model)
    return folder


def curve(folder: Path, model: str) -> list[dict]:
    return read_jsonl(folder / "results/evaluate" / model / "checkpoints.jsonl")


def metrics(folder: Path, model: str) -> dict:
    return read_json(folder / "results/evaluate" / model / "metrics.json")


def test_free_answers_are_graded_by_the_mark_of_the_data_and_others_by_the_tags():
    free = trained_format(Settings(answers="free"))
    assert free.strict_answer("It is 5.\n#### 5") == "5"
    assert free.strict_answer("<answer>\n5\n</answer>") is None
    assert (free.well_formed("#### 5"), free.well_formed("5")) == (True, False)
    assert trained_format(Settings()).strict_answer("<answer>\n5\n</answer>\n#### 6") == "5"


def test_without_a_gold_answer_nothing_is_evaluated_and_the_error_shows_how_to_write_one(small, tmp_path):
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(PipelineError, match=r"test\.jsonl: .*'####'.*'#### 72'"):
        evaluate("base", tmp_path, tmp_path, tmp_path, tmp_path / "base", small)
    assert not (tmp_path / "base").exists()


def test_base_is_step_0_and_a_variant_has_its_kept_steps_and_its_last(evaluated):
    assert [(row["step"], row["prompts_seen"]) for row in curve(evaluated, "base")] == [(0, 0)]
    seen = pd.read_csv(evaluated / "results/train/short/history.csv").set_index("step")["prompts_seen"]
    assert [(row["step"], row["prompts_seen"]) for row in curve(evaluated, "short")] == [(4, seen[4]), (8, seen[8])]


def test_a_row_has_every_share_with_its_interval(evaluated):
    for row in [*curve(evaluated, "base"), *curve(evaluated, "short")]:
        assert list(row) == [
            "step", "prompts_seen", "n", "strict_accuracy", "strict_accuracy_ci95", "flexible_accuracy",
            "flexible_accuracy_ci95", "format_rate", "format_rate_ci95", "mean_completion_tokens",
        ]  # fmt: skip
        assert row["format_rate_ci95"][0] <= row["format_rate"] <= row["format_rate_ci95"][1]


def test_a_point_of_the_curve_equals_the_evaluation_of_its_model_on_the_same_questions(evaluated):
    rows = {row["step"]: row for model in ("base", "short") for row in curve(evaluated, model)}
    for model, step in STEP_OF.items():
        evaluation = metrics(evaluated, model)
        assert evaluation["n_available"] == 24
        assert {key: rows[step][key] for key in COMPARED} == {key: evaluation[key] for key in COMPARED}
    assert len({tuple(row[key] for key in COMPARED) for row in rows.values()}) == 3  # the models differ


def test_a_kept_checkpoint_has_no_curve_of_its_own(evaluated):
    written = {path.name for path in (evaluated / "results/evaluate/short@4").iterdir()}
    files = {"answers.jsonl", "sampled.jsonl", "probes.jsonl", "metrics.json", "configuration.json"}
    assert written == {*files, "prompts", "sets"}


def test_mlflow_has_the_curve_at_its_steps_and_the_finals_of_the_last_step(evaluated):
    client = mlflow.MlflowClient(f"sqlite:///{evaluated}/tracking/mlflow.db")
    for model in ("base", "short"):
        run_id = metrics(evaluated, model)["mlflow_run_id"]
        for name in COMPARED[1:]:
            logged = client.get_metric_history(run_id, f"validation_{name}")
            assert {point.step: point.value for point in logged} == {
                row["step"]: row[name] for row in curve(evaluated, model)
            }
        final = client.get_run(run_id).data.metrics["final_mean_completion_tokens"]
        assert final == metrics(evaluated, model)["mean_completion_tokens"]
    assert metrics(evaluated, "short@4")["mlflow_run_id"] == metrics(evaluated, "short")["mlflow_run_id"]


def test_without_a_validation_split_the_curve_is_empty(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    write_jsonl(tmp_path / "results/extract/validation.jsonl", [])
    run(tmp_path, "evaluate", "--model", "base")
    assert (tmp_path / "results/evaluate/base/checkpoints.jsonl").read_bytes() == b""
    assert metrics(tmp_path, "base")["n"] == 12


@pytest.mark.parametrize(("model", "folder"), [("short@4", "checkpoints/4"), ("short", "model")])
def test_missing_weights_are_named_with_the_command_that_writes_them(tmp_path, model, folder):
    with pytest.raises(PipelineError) as stopped:
        trained.folder(model, tmp_path)
    assert str(stopped.value).startswith(f"{tmp_path / 'short' / folder}: ")
    assert "`gsm8k-grpo train --variant short`" in str(stopped.value)


# Further prompts, further sets, samples


def rows(folder: Path, model: str, name: str) -> list[dict]:
    return read_jsonl(folder / "results/evaluate" / model / name)


def test_every_task_has_its_file_with_rows_like_those_of_the_answers(evaluated):
    answers = rows(evaluated, "short", "answers.jsonl")
    for name, ids in {
        "prompts/plain.jsonl": [row["id"] for row in answers],
        "prompts/4-shot.jsonl": [row["id"] for row in answers],
        "sets/longer.jsonl": [f"longer-{n}" for n in range(6)],
    }.items():
        graded = rows(evaluated, "short", name)
        assert [row["id"] for row in graded] == ids
        assert list(graded[0]) == list(answers[0])


def test_few_shot_answers_are_graded_by_the_mark_and_end_before_another_question(evaluated):
    for row in rows(evaluated, "base", "prompts/4-shot.jsonl"):
        assert row["strict_correct"] == same_answer(strict_answer(row["completion"]), row["gold"])
        assert row["format_ok"] == (strict_answer(row["completion"]) is not None)
        assert "Question:" not in row["completion"]


def test_a_sampled_row_has_four_graded_answers(evaluated):
    sampled = rows(evaluated, "short", "sampled.jsonl")
    assert [row["id"] for row in sampled] == [row["id"] for row in rows(evaluated, "short", "answers.jsonl")[:6]]
    for row in sampled:
        assert list(row) == [
            "id", "question", "gold", "strict_answers", "flexible_answers", "strict_correct", "flexible_correct",
            "completion_tokens",
        ]  # fmt: skip
        for kind in ("strict", "flexible"):
            correct = [same_answer(answer, row["gold"]) for answer in row[f"{kind}_answers"]]
            assert row[f"{kind}_correct"] == correct
            assert len(correct) == 4
    assert len({json.dumps(row["strict_answers"]) for row in sampled}) > 1


def test_the_metrics_of_every_task_agree_with_its_answers(evaluated):
    by_task = {
        (row["set"], row["prompt"], row["decoding"], row["metric"]): row
        for row in metrics(evaluated, "short")["measures"]
    }
    assert {key[:3] for key in by_task} == {
        ("test", "trained", "greedy"), ("test", "plain", "greedy"), ("test", "4-shot", "greedy"),
        ("longer", "trained", "greedy"), ("test", "trained", "sampled"),
    }  # fmt: skip
    whole = metrics(evaluated, "short")
    strict = by_task["test", "trained", "greedy", "strict_accuracy"]
    assert (strict["value"], strict["ci95"], strict["n"]) == (
        whole["strict_accuracy"], whole["strict_accuracy_ci95"], 12,
    )  # fmt: skip
    longer = rows(evaluated, "short", "sets/longer.jsonl")
    assert by_task["longer", "trained", "greedy", "format_rate"]["value"] == sum(row["format_ok"] for row in longer) / 6
    sampled = rows(evaluated, "short", "sampled.jsonl")
    right = [answer for row in sampled for answer in row["strict_correct"]]
    assert by_task["test", "trained", "sampled", "strict_mean@4"]["value"] == pytest.approx(sum(right) / 24)
    pass_at_4 = by_task["test", "trained", "sampled", "strict_pass@4"]
    assert (pass_at_4["value"], pass_at_4["n"]) == (sum(any(row["strict_correct"]) for row in sampled) / 6, 6)


def test_what_shapes_prompts_and_ends_answers_is_recorded(evaluated):
    recorded = {"chat_template_kwargs": {}, "date": "2024-07-26", "stop_tokens": [0, 2]}
    for model in ("base", "short"):
        assert metrics(evaluated, model)["decoding"] | recorded == metrics(evaluated, model)["decoding"]


def test_the_time_and_the_tokens_of_each_task_are_recorded(evaluated):
    timing = {(row["set"], row["prompt"], row["decoding"]): row for row in metrics(evaluated, "short")["timing"]}
    sampled = rows(evaluated, "short", "sampled.jsonl")
    row = timing["test", "trained", "sampled"]
    assert (row["completions"], row["completion_tokens"]) == (24, sum(sum(r["completion_tokens"]) for r in sampled))
    assert metrics(evaluated, "short")["seconds"] == timing["test", "trained", "greedy"]["seconds"]


def test_the_same_seed_gives_the_same_bytes(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    run(tmp_path, "evaluate", "--model", "base")
    for name in ("answers.jsonl", "sampled.jsonl", "prompts/4-shot.jsonl", "sets/longer.jsonl"):
        ours, theirs = (folder / "results/evaluate/base" / name for folder in (tmp_path, evaluated))
        assert ours.read_bytes() == theirs.read_bytes()


def test_without_samples_prompts_and_sets_only_the_test_split_is_answered(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    run(tmp_path, "evaluate", "--model", "base", "evaluate.samples=0", "evaluate.prompts=[]", "evaluate.sets={}")
    folder = tmp_path / "results/evaluate/base"
    assert (folder / "sampled.jsonl").read_bytes() == b""
    assert [*(folder / "prompts").iterdir(), *(folder / "sets").iterdir()] == []
    assert {(row["prompt"], row["decoding"]) for row in metrics(tmp_path, "base")["measures"]} == {
        ("trained", "greedy")
    }


def test_few_shot_prompts_that_exceed_the_context_are_refused_before_any_is_answered(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    shutil.rmtree(tmp_path / "results/evaluate")
    refused = attempt(
        tmp_path, "evaluate", "--model", "base", "evaluate.prompts=[8-shot]", "evaluate.max_completion_length=600"
    )
    assert refused.returncode == 1
    assert re.search(
        r"error: evaluate: .*test, 8-shot has \d+ tokens.*evaluate\.max_completion_length \(600\).*1024; "
        r".*8-shot.*evaluate\.prompts.*base\.architecture\.context\n",
        refused.stderr,
    )
    assert not (tmp_path / "results/evaluate").exists()


# Unanswerable questions and the contamination probe


def test_the_probe_and_a_set_with_unanswerable_questions_add_their_rows_and_change_no_others(evaluated, tmp_path):
    shutil.copytree(evaluated / "results", tmp_path / "results")
    shutil.copytree(evaluated / "tracking", tmp_path / "tracking")
    plus = [
        {
            "question": f"Ann has {'some' if unknown else 2} pens and buys {n}. How many?",
            "answer": unknown or str(n + 2),
        }
        for n, unknown in enumerate(["", "None", "None", ""])
    ]
    write_jsonl(tmp_path / "plus.jsonl", plus)
    sets = (
        "evaluate.sets={longer: {generated: {problems: longer, rows: 6}}, plus: {path: plus.jsonl, unanswerable: None}}"
    )
    run(tmp_path, "download", "--part", "sets", sets)
    run(tmp_path, "extract", "--part", "sets", sets)
    run(tmp_path, "evaluate", "--model", "base", sets, "evaluate.contamination=true")
    for name in ("answers.jsonl", "sampled.jsonl", "prompts/4-shot.jsonl", "sets/longer.jsonl"):
        assert rows(tmp_path, "base", name) == rows(evaluated, "base", name)
    measures = {(row["set"], row["prompt"], row["metric"]): row for row in metrics(tmp_path, "base")["measures"]}
    before = {(row["set"], row["prompt"], row["metric"]) for row in metrics(evaluated, "base")["measures"]}
    assert {key[:2] for key in set(measures) - before} == {
        ("plus", "trained"), ("plus, unanswerable", "trained"), ("test", "continuation"), ("longer", "continuation"),
        ("plus", "continuation"),
    }  # fmt: skip
    assert measures["plus", "trained", "strict_accuracy"]["n"] == 2
    unanswerable = [row for row in rows(tmp_path, "base", "sets/plus.jsonl") if row["gold"] == "None"]
    for reading in ("strict", "flexible"):
        rate = measures["plus, unanswerable", "trained", f"{reading}_number_rate"]
        assert (rate["n"], rate["value"]) == (2, sum(not row[f"{reading}_correct"] for row in unanswerable) / 2)
    continued = rows(tmp_path, "base", "prompts/continuation.jsonl")
    assert [row["id"] for row in continued] == [
        *(row["id"] for row in rows(tmp_path, "base", "answers.jsonl")), *(f"longer-{n}" for n in range(6)),
        *(f"plus-{n}" for n in range(4)),
    ]  # fmt: skip
    assert continued[-1]["given"] + continued[-1]["expected"] == plus[-1]["question"]
    close = measures["longer", "continuation", "continuation_rouge_l"]
    assert (close["n"], close["value"]) == (6, pytest.approx(sum(row["rouge_l"] for row in continued[12:18]) / 6))
    timing = {(row["set"], row["prompt"]): row["completions"] for row in metrics(tmp_path, "base")["timing"]}
    assert timing["plus", "continuation"] == 4


def test_every_model_has_the_share_of_prompts_on_which_each_reward_differs_in_results_and_mlflow(evaluated):
    client = mlflow.MlflowClient(f"sqlite:///{evaluated}/tracking/mlflow.db")
    for model in ("base", "short"):
        evaluation = read_json(evaluated / f"results/evaluate/{model}/metrics.json")
        rows = {row["reward"]: row for row in evaluation["signal"]}
        assert list(rows) == ["xmlcount", "soft_format", "strict_format", "int", "correctness", "total"]
        assert {(row["n"], row["samples"]) for row in rows.values()} == {(6, 4)}
        samples = read_jsonl(evaluated / f"results/evaluate/{model}/sampled.jsonl")
        differing = [len(set(row["strict_correct"])) > 1 for row in samples]
        assert rows["correctness"]["share"] == sum(differing) / 6
        assert rows["total"]["share"] >= rows["correctness"]["share"]
        (run,) = client.search_runs(["1"], f"tags.model = '{model}'")
        assert run.data.metrics["signal_total"] == rows["total"]["share"]
