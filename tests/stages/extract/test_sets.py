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


PLUS = [
    {"question": "Ann has 3 pens and buys 4. How many?", "answer": "7"},
    {"question": "Ann has some pens and buys 4. How many?", "answer": "None"},
    {"question": "Ann has 1/x pens. How many?", "answer": "1/x"},
]


def test_questions_without_an_answer_stay_and_are_counted(run, own):
    results = run(own(*PLUS, unanswerable="none", only_numbers=True))
    assert [(row["id"], row["answer"], row["solution"]) for row in read_jsonl(results / "extract/sets/own.jsonl")] == [
        ("own-0", "7", "7"),
        ("own-1", None, "None"),
    ]
    assert read_json(results / "extract/sets/metrics.json") == {"own": {"rows": 2, "left_out": 1, "unanswerable": 1}}


def test_a_mark_of_questions_without_an_answer_that_no_question_has_is_refused(run, own):
    with pytest.raises(PipelineError, match=r"^evaluate\.sets\.own\.unanswerable = n/a: .*no such answer"):
        run(own(PLUS[0], unanswerable="n/a"))


def test_generated_problems_have_a_seed_of_their_own(run):
    first, again, other = (
        read_jsonl(run({"g": {"generated": {"problems": "simple", "rows": 5, "seed": seed}}}) / "extract/sets/g.jsonl")
        for seed in (None, 7, 8)
    )
    assert first == again
    assert {row["question"] for row in first}.isdisjoint(row["question"] for row in other)


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


# The sets of evaluate.more_sets, with rows of our own in the columns and files that their pages show

GSM_PLUS = {
    "perturbation_type": "critical thinking", "seed_question": "q", "seed_solution": "s", "seed_answer": "7",
}  # fmt: skip
SYMBOLIC = {"id": 1, "instance": 2, "original_id": 3, "original_question": "q", "original_answer": "a", "canary": "c"}
PUBLISHED = {
    "gsm_plus": ("data/testmini-00000-of-00001.jsonl", [row | GSM_PLUS | {"solution": "s"} for row in PLUS]),
    "gsm_symbolic": ("main/test.jsonl", [{"question": "One and one?", "answer": "1+1=2\n#### 2"} | SYMBOLIC]),
    "gsm_symbolic_p2": ("p2/test.jsonl", [{"question": "Two and two?", "answer": "2+2=4\n#### 4"} | SYMBOLIC]),
}
SYMBOLIC_CARD = """---
configs:
- {config_name: main, data_files: [{split: test, path: main/test.jsonl}]}
- {config_name: p2, data_files: [{split: test, path: p2/test.jsonl}]}
---
"""


@pytest.fixture
def offered(tmp_path, monkeypatch):
    """Gives a set of evaluate.more_sets with a folder in place of the data set on the hub."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "published"

    def offered(name: str) -> dict:
        wanted = load(ROOT / "params.yaml", {"evaluate.more_sets": True}).evaluate.sets[name].model_dump()
        return {name: wanted | {"hub": wanted["hub"] | {"dataset": str(folder)}}}

    offered.folder = folder
    return offered


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_set_on_offer_reads_the_columns_and_the_split_that_its_page_shows(name, run, offered):
    file, rows = PUBLISHED[name]
    (offered.folder / file).parent.mkdir(parents=True)
    (offered.folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if "symbolic" in name:
        (offered.folder / "README.md").write_text(SYMBOLIC_CARD)
        other = next(path for path, _ in PUBLISHED.values() if path != file and path.endswith("/test.jsonl"))
        (offered.folder / other).parent.mkdir(exist_ok=True)
        (offered.folder / other).write_text((offered.folder / file).read_text().replace("?", "!"))
    results = run(offered(name))
    extracted = read_jsonl(results / f"extract/sets/{name}.jsonl")
    questions = [row["question"] for row in rows if row["answer"] != "1/x"]
    assert [row["question"] for row in extracted] == questions
    assert [row["answer"] for row in extracted] == {"gsm_plus": ["7", None], "gsm_symbolic": ["2"]}.get(name, ["4"])


def test_gsm1k_is_read_from_the_arrow_file_that_its_page_shows(run, offered):
    """On the hub the format is recognised as Arrow; in a folder with state.json only a card says so."""
    from datasets import Dataset

    offered.folder.mkdir()
    card = "---\nconfigs:\n- {config_name: default, data_files: [{split: test, path: data/test/*.arrow}]}\n---\n"
    (offered.folder / "README.md").write_text(card)
    Dataset.from_dict({"question": ["One and one?"], "answer": [2]}).save_to_disk(offered.folder / "data/test")
    results = run(offered("gsm1k"))
    assert [(row["question"], row["answer"]) for row in read_jsonl(results / "extract/sets/gsm1k.jsonl")] == [
        ("One and one?", "2")
    ]
