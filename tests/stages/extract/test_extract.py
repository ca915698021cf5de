"""The stage extract: the splits, their rows, and what it refuses."""

import json

import pytest
from chats import chat
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl, write_jsonl
from gsm8k_grpo.stages.extract.stage import extract


def published(n):
    return {"question": f"What is {n} and {n}?", "answer": f"{n}+{n}=<<{n}+{n}={2 * n}>>{2 * n}\n#### {2 * n}"}


def write_download(folder, split="train", line=1, content=None):
    """A download folder of 30 + 5 rows, one line of it replaced by `content`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (("train", range(30)), ("test", range(100, 105))):
        lines = [json.dumps(published(n)).encode() for n in numbers]
        if name == split and content is not None:
            lines[line - 1] = content
        (folder / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


@pytest.fixture
def run(tmp_path, small):
    """Runs the stage on the 30 + 5 rows; gives its three files' rows."""
    source = write_download(tmp_path / "results" / "download")

    def run(target="extract", seed=1, **changes):
        folder = tmp_path / "results" / target
        extract(source, folder, small.extract.model_copy(update=changes), seed)
        return {split: read_jsonl(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}

    return run


def test_a_row_has_id_prompt_question_gold_and_solution(run):
    assert run()["test"][3] == {
        "id": "test-3",
        "prompt": chat("What is 103 and 103?", "english", False),
        "question": "What is 103 and 103?",
        "answer": "206",
        "solution": "103+103=<<103+103=206>>206\n#### 206",
    }


def test_validation_is_cut_from_train_and_nothing_is_lost(run):
    splits = run()
    train, validation = ({row["id"] for row in splits[name]} for name in ("train", "validation"))
    assert len(validation) == 8
    assert train.isdisjoint(validation)
    assert train | validation == {f"train-{index}" for index in range(30)}
    assert [row["question"] for row in splits["train"]] == [
        published(n)["question"] for n in range(30) if f"train-{n}" in train
    ]


def test_the_test_split_is_whole_and_in_the_published_order(run):
    assert [row["question"] for row in run()["test"]] == [published(n)["question"] for n in range(100, 105)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_rows(run, tmp_path):
    first, again, other = run("first", seed=1), run("again", seed=1), run("other", seed=2)
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl", "metrics.json"):
        assert (tmp_path / "results/first" / name).read_bytes() == (tmp_path / "results/again" / name).read_bytes()
    assert first == again
    assert first["validation"] != other["validation"]
    assert first["test"] == other["test"]


def test_the_counts_are_in_the_metrics(run, tmp_path):
    run(validation_rows=3)
    assert read_json(tmp_path / "results/extract/metrics.json") == {
        "train_rows": 27,
        "validation_rows": 3,
        "test_rows": 5,
        "copies": {"train": 0, "test": 0},
        "validation_copies_left_out": 0,
    }


def test_a_free_answer_is_kept_as_published_and_its_prompt_is_the_question_alone(tmp_path, small, capsys):
    source, target = tmp_path / "download", tmp_path / "extract"
    rows = [{"question": f"Where is {n}?", "answer": f"North of {n - 1}."} for n in range(4)]
    graded = {"question": "What is 2 and 2?", "answer": "It is 4, of course.\n#### 4"}
    write_jsonl(source / "train.jsonl", rows[:3])
    write_jsonl(source / "test.jsonl", [rows[3], graded])
    free = small.extract.model_copy(update={"answers": "free", "validation_rows": 1})
    extract(source, target, free, seed=1)
    train, test = (read_jsonl(target / f"{split}.jsonl") for split in ("train", "test"))
    assert {row["solution"] for row in train} < {row["answer"] for row in rows}
    assert all(row["answer"] is None for row in train)
    assert test == [
        {
            "id": "test-1",
            "prompt": [{"role": "user", "content": "What is 2 and 2?"}],
            "question": "What is 2 and 2?",
            "answer": "4",
            "solution": "It is 4, of course.\n#### 4",
        }
    ]
    assert read_jsonl(target / "validation.jsonl") == []
    assert read_json(target / "metrics.json") == {
        "train_rows": 2,
        "validation_rows": 0,
        "test_rows": 1,
        "copies": {"train": 0, "test": 0},
        "validation_copies_left_out": 0,
        "validation_rows_without_number": 1,
        "test_rows_without_number": 1,
    }
    assert "extract: 1 of the 2 answers of test have no number" in capsys.readouterr().err.splitlines()[-1]


def test_a_question_of_test_in_train_is_refused_however_it_is_spaced(run, tmp_path):
    shared = published(101) | {"question": " What is  101\nand 101?"}
    folder = write_download(tmp_path / "results" / "download", "train", 4, json.dumps(shared).encode())
    with pytest.raises(PipelineError) as stopped:
        run()
    assert str(stopped.value).startswith(f"{folder}/train.jsonl:4: ")
    assert f" {folder}/test.jsonl:2;" in str(stopped.value)
    assert not (tmp_path / "results" / "extract").exists()


@pytest.fixture
def repeated(tmp_path, small):
    """Runs the stage on 5 questions in 20 rows each, spaced in two ways; gives splits and metrics."""
    rows = [published(n % 5) for n in range(100)]
    rows[50:] = [row | {"question": row["question"].replace(" ", "  ")} for row in rows[50:]]
    write_jsonl(tmp_path / "download/train.jsonl", rows)
    write_jsonl(tmp_path / "download/test.jsonl", [published(100), published(101), published(100)])
    extract(tmp_path / "download", tmp_path, small.extract.model_copy(update={"validation_rows": 2}), seed=1)
    splits = {split: read_jsonl(tmp_path / f"{split}.jsonl") for split in ("train", "validation", "test")}
    return splits, read_json(tmp_path / "metrics.json")


def test_no_question_of_validation_is_in_train_when_questions_repeat(repeated):
    splits, _ = repeated
    train, validation = (
        {" ".join(row["question"].split()) for row in splits[name]} for name in ("train", "validation")
    )
    assert len(splits["validation"]) == len(validation) == 2
    assert len(train) == 3
    assert train.isdisjoint(validation)
    assert len(splits["train"]) == 60


def test_repeated_questions_are_counted(repeated):
    splits, metrics = repeated
    assert metrics["copies"] == {"train": 95, "test": 1}
    assert metrics["validation_copies_left_out"] == 2 * 19
    assert [row["id"] for row in splits["test"]] == ["test-0", "test-1", "test-2"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_question_with_two_gold_answers_is_refused_with_both_lines(run, tmp_path, split):
    asked = "What is 0 and 0?" if split == "train" else "What is 100  and 100?"
    other = json.dumps({"question": asked, "answer": "#### 5"}).encode()
    folder = write_download(tmp_path / "results" / "download", split, 4, other)
    with pytest.raises(PipelineError, match=rf"^{folder}/{split}\.jsonl:4: the same question is in line 1, .* of 5;"):
        run()
    assert not (tmp_path / "results" / "extract").exists()


def test_a_question_with_the_same_gold_in_two_spellings_is_no_contradiction(run, tmp_path):
    again = json.dumps({"question": "What is 15 and 15?", "answer": "#### 30.0"}).encode()
    write_download(tmp_path / "results" / "download", "train", 4, again)
    run()
    assert read_json(tmp_path / "results/extract/metrics.json")["copies"] == {"train": 1, "test": 0}


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_number_alone_is_an_answer(run, tmp_path, split):
    row = json.dumps({"question": "What is a dozen and a half?", "answer": "$1,018.00"}).encode()
    write_download(tmp_path / "results" / "download", split, 2, row)
    (example,) = (row for row in run(validation_rows=0)[split] if row["id"] == f"{split}-1")
    assert (example["answer"], example["solution"]) == ("1018", "$1,018.00")


def test_no_validation_rows_leave_train_whole(run):
    splits = run(validation_rows=0)
    assert len(splits["train"]) == 30
    assert splits["validation"] == []


def test_prompts_can_be_chinese_and_one_shot(run):
    assert run(language="chinese", one_shot=True)["train"][0]["prompt"] == chat("What is 0 and 0?", "chinese", True)


def test_validation_can_not_take_all_rows_of_train(run, tmp_path):
    with pytest.raises(
        PipelineError, match=r"^extract\.validation_rows = 30: .*train\.jsonl has 30 questions; .* at most 29$"
    ):
        run(validation_rows=30)
    assert not (tmp_path / "results" / "extract").exists()


def test_a_stage_run_too_early_names_the_missing_file(cli):
    done = cli("extract")
    assert done.returncode == 1
    assert done.stderr.startswith("error: results/download/train.jsonl: no such file")
    assert len(done.stderr.splitlines()) == 1


def test_gsm8k_goes_through_the_stage_whole(gsm8k, small, tmp_path):
    extract(gsm8k, tmp_path, small.extract.model_copy(update={"validation_rows": 473}), seed=1)
    counts = {name: len(read_jsonl(tmp_path / f"{name}.jsonl")) for name in ("train", "validation", "test")}
    assert counts == {"train": 7000, "validation": 473, "test": 1319}
