"""benchmarks/same_results.py: a changed result is reported, a changed clock is not."""

import json
import shutil

import pytest
from same_results import main

FILES = {
    "base/model/model.safetensors": "weights",
    "base/metrics.json": json.dumps({"loss": 0.7, "seconds": 60}),
    "train/short/model/model.safetensors": "weights",
    "train/short/checkpoints/50/model.safetensors": "weights",
    "train/short/metrics.json": json.dumps(
        {
            "steps": 2, "seconds": 9, "seconds_update": 5, "peak_memory_gib": 0.9, "energy_kwh": None, "sessions": 1,
            "mlflow_run_id": "a", "mlflow_run_key": "short-a",
            "effective_config": {"trainer": "Trainer", "learning_rate": 0.1},
        }
    ),
    "train/short/history.csv": "step,reward,seconds_generate,seconds_score,seconds_update\n1,0.5,1,1,1\n2,0.6,1,1,1\n",
    "train/short/README.md": "# short\n\n- code at commit `0a1b`\n- 1.8 minutes on cpu, 0.9 GiB at most\n",
    "evaluate/base/answers.jsonl": '{"answer": 7}\n',
    "evaluate/base/prompts/plain.jsonl": '{"answer": 8}\n',
    "evaluate/base/metrics.json": json.dumps(
        {"strict_accuracy": 0.5, "seconds": 2, "timing": [{"set": "test", "seconds": 2, "completions": 4}]}
    ),
    "extract/train.jsonl": '{"question": "?"}\n',
    "compare/comparison.json": "[]\n",
    "configure/params.yaml": "seed: 42\n",
    "report/report.html": "<html>",
}  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for name, text in FILES.items():
        file = old / "results" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    shutil.copytree(old, new)
    return old, new


def replace(folder, name, before, after):
    file = folder / "results" / name
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_equal_results_are_the_same(folders, capsys):
    assert main([str(folder) for folder in folders]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(FILES) - 1} files the same, 0 differ"
    assert all(line.startswith("same") for line in lines[:-1])


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("base/model/model.safetensors", "w", "v"),
        ("train/short/checkpoints/50/model.safetensors", "w", "v"),
        ("train/short/history.csv", "0.6", "0.7"),
        ("train/short/history.csv", "reward", "rewards"),
        ("train/short/metrics.json", "0.1", "0.2"),
        ("train/short/README.md", "short", "long"),
        ("evaluate/base/answers.jsonl", "7", "8"),
        ("evaluate/base/prompts/plain.jsonl", "8", "7"),
        ("evaluate/base/metrics.json", '"completions": 4', '"completions": 5'),
        ("extract/train.jsonl", "?", "!"),
        ("compare/comparison.json", "[]", "[ ]"),
        ("configure/params.yaml", "42", "43"),
    ],
)
def test_a_changed_result_is_reported(folders, capsys, name, before, after):
    replace(folders[1], name, before, after)
    assert main([str(folder) for folder in folders]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("DIFFERS")] == [f"results/{name}"]
    assert lines[-1].endswith(" 1 differ")


@pytest.mark.parametrize("side", [0, 1])
def test_a_file_that_is_missing_on_one_side_is_reported(folders, capsys, side):
    (folders[side] / "results/evaluate/base/answers.jsonl").unlink()
    assert main([str(folder) for folder in folders]) == 1
    side_with_the_file = ["NEW", "OLD"][side]
    assert f"DIFFERS results/evaluate/base/answers.jsonl only in {side_with_the_file}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("base/metrics.json", '"seconds": 60', '"seconds": 61'),
        ("train/short/metrics.json", '"seconds_update": 5', '"seconds_update": 6'),
        ("train/short/metrics.json", '"peak_memory_gib": 0.9', '"peak_memory_gib": 1.0'),
        ("train/short/metrics.json", '"sessions": 1', '"sessions": 2'),
        ("train/short/metrics.json", '"mlflow_run_id": "a"', '"mlflow_run_id": "b"'),
        ("train/short/history.csv", "0.5,1,1,1", "0.5,2,3,4"),
        ("train/short/README.md", "0a1b", "2c3d"),
        ("train/short/README.md", "1.8 minutes on cpu, 0.9 GiB", "2.0 minutes on cpu, 1.0 GiB"),
        ("evaluate/base/metrics.json", '"set": "test", "seconds": 2', '"set": "test", "seconds": 3'),
        ("configure/params.yaml", "seed: 42", "# seed of the run\nseed:  42"),
        ("report/report.html", "<html>", "<HTML>"),
    ],
)
def test_clocks_identifiers_and_layout_may_change(folders, capsys, name, before, after):
    replace(folders[1], name, before, after)
    assert main([str(folder) for folder in folders]) == 0
    assert capsys.readouterr().out.endswith(" 0 differ\n")


def test_a_renamed_trainer_is_named_and_does_not_count(folders, capsys):
    replace(folders[1], "train/short/metrics.json", '"Trainer"', '"GRPOTrainerWithMetrics"')
    assert main([str(folder) for folder in folders]) == 0
    assert "renamed: Trainer -> GRPOTrainerWithMetrics" in capsys.readouterr().out


def test_a_folder_without_results_is_refused(folders, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(folders[0]), str(tmp_path)])
    assert "make report" in capsys.readouterr().err
