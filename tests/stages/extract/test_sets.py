"""Further test sets through download and extract: generated, from a file, from the hub; what their answers may be."""

import json
from pathlib import Path

import pytest
from chats import chat
from gsm8k_grpo.config.params import load
from gsm8k_grpo.files import PipelineError, read_json, read_jsonl
from gsm8k_grpo.gsm8k.answers import published_answer
from gsm8k_grpo.stages.download.stage import download, download_sets
from gsm8k_grpo.stages.extract.sets import extract_sets
from gsm8k_grpo.stages.extract.stage import extract
from project import ROOT

GENERATED = {"longer": {"generated": {"problems": "longer", "rows": 6}}}


@pytest.fixture
def run(small, tmp_path):
    """Runs download and extract with further sets; gives the folder of the results."""

    def run(sets: dict) -> Path:
        params = load(ROOT / "params.yaml", {"evaluate.sets": sets, "extract.validation_rows": 8, "seed": 7})
        params = params.model_copy(update={"download": small.download})
        downloaded, extracted = tmp_path / "results/download", tmp_path / "results/extract"
        download(downloaded, params)
        download_sets(downloaded / "sets", params.evaluate.sets, params.seed)
        extract(downloaded, extracted, params.extract, params.seed)
        extract_sets(downloaded, extracted, params)
        return tmp_path / "results"

    return run


@pytest.fixture
def own(tmp_path):
    """Writes a file of rows; gives the set that names it."""

    def write(*rows: dict, **keys) -> dict:
        path = tmp_path / "own.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"own": {"path": str(path)} | keys}

    return write


def test_generated_problems_have_more_calculations_than_any_of_train(run):
    results = run(GENERATED)
    rows = read_jsonl(results / "extract/sets/longer.jsonl")
    train = read_jsonl(results / "extract/train.jsonl")
    assert [row["id"] for row in rows] == [f"longer-{n}" for n in range(6)]
    assert min(row["solution"].count("<<") for row in rows) > max(row["solution"].count("<<") for row in train)
    assert rows[0]["prompt"] == chat(rows[0]["question"], "english", False)
    source = read_json(results / "download/sets/source.json")["longer"]
    assert (source["origin"], source["rows"]) == ("gsm8k_grpo.problems, longer", 6)


def test_without_further_sets_there_is_still_the_overlap_of_the_test_split(run):
    results = run({})
    assert read_json(results / "download/sets/source.json") == read_json(results / "extract/sets/metrics.json") == {}
    (row,) = read_json(results / "extract/overlap.json")
    assert (row["set"], row["n"], row["exact"], row["size"]) == ("test", 10, 0, 13)


def test_an_answer_is_a_number_or_a_solution(run, own):
    answers = [72, 2.5, "1,072", "so it is 4.\n#### 4", r"$\frac{1}{2}$"]
    results = run(own(*({"question": f"q{n}", "answer": answer} for n, answer in enumerate(answers))))
    assert [row["answer"] for row in read_jsonl(results / "extract/sets/own.jsonl")] == [
        "72",
        "2.5",
        "1072",
        "4",
        "0.5",
    ]


@pytest.mark.parametrize("text", ["seven", r"\sqrt{2}", r"\frac{1}{x}", "12:30", "#### x", "#### 1 #### 2", "7 apples"])
def test_an_answer_that_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"number|marks"):
        published_answer(text)


def test_an_answer_that_is_no_number_is_refused_with_its_line_and_the_remedy(run, own, tmp_path):
    with pytest.raises(PipelineError) as stopped:
        run(own({"question": "q", "answer": "7"}, {"question": "r", "answer": "x^2"}))
    assert str(stopped.value).startswith(f"{tmp_path}/results/download/sets/own.jsonl:2: ")
    assert "'x^2'" in str(stopped.value)
    assert "evaluate.sets.own.only_numbers: true" in str(stopped.value)


def test_only_numbers_leaves_the_others_out_and_counts_them(run, own):
    rows = [{"question": "q", "answer": "x^2"}, {"question": "r", "answer": "7"}]
    results = run(own(*rows, only_numbers=True))
    assert [(row["id"], row["answer"]) for row in read_jsonl(results / "extract/sets/own.jsonl")] == [("own-1", "7")]
    assert read_json(results / "extract/sets/metrics.json") == {"own": {"rows": 1, "left_out": 1}}


def test_a_set_without_any_number_is_refused(run, own):
    with pytest.raises(PipelineError, match=r"sets/own\.jsonl: .*number.* own out of evaluate\.sets"):
        run(own({"question": "q", "answer": "x"}, only_numbers=True))


def test_a_missing_file_is_named_with_its_key(run, tmp_path):
    with pytest.raises(PipelineError, match=rf"^evaluate\.sets\.own\.path = {tmp_path}/none\.jsonl: no such file"):
        run({"own": {"path": f"{tmp_path}/none.jsonl"}})


def test_a_question_of_a_further_set_that_is_also_in_train_is_counted_but_not_refused(run, own, tmp_path):
    known = read_jsonl(run({}) / "extract/train.jsonl")[3]
    results = run(own({"question": known["question"].upper(), "answer": known["answer"]}))
    assert [(row["set"], row["exact"], row["examples"]) for row in read_json(results / "extract/overlap.json")] == [
        ("test", 0, []),
        ("own", 1, ["own-0"]),
    ]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder that load_dataset reads as a data set of one split with its own columns; gives the set that names it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "test.jsonl").write_text(json.dumps({"problem": "One and one?", "result": 2}) + "\n")

    def sums(**keys) -> dict:
        settings = {
            "dataset": str(folder), "configuration": None, "revision": "main", "split": "test",
            "question_key": "problem", "answer_key": "result", "licence": "MIT",
        }  # fmt: skip
        return {"sums": {"hub": settings | keys}}

    return sums


def test_columns_and_split_of_a_set_of_the_hub_are_named(run, hub):
    results = run(hub())
    assert read_jsonl(results / "download/sets/sums.jsonl") == [{"question": "One and one?", "answer": "2"}]
    assert read_json(results / "download/sets/source.json")["sums"]["licence"] == "MIT"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"split": "dev"}, r"^evaluate\.sets\.sums\.hub\.dataset = .*: .*no split 'dev'; .* test$"),
        ({"answer_key": "answer"}, r"^evaluate\.sets\.sums\.hub\.answer_key = answer: .*choose from problem, result$"),
        ({"dataset": "no/where"}, r"no/where at revision main(.|\n)*evaluate\.sets\.sums\.path"),
    ],
)
def test_a_set_of_the_hub_that_lacks_something_is_refused(run, hub, keys, reason, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PipelineError, match=reason):
        run(hub(**keys))
