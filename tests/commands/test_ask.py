"""`gsm8k-grpo ask`: the answers, and how they are shown."""

import io
import shutil
import subprocess

import pytest
from chats import chat
from gsm8k_grpo.commands.ask import ask, complete, printable, trained_models
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import loading
from gsm8k_grpo.stages.evaluate import answering
from project import ROOT
from rich.console import Console
from small_run import FEW, command

QUESTION = "Which is bigger? 9.919 or 9.92?"


@pytest.fixture(scope="module")
def few() -> Params:
    return load(ROOT / "params.yaml", FEW | {"keep_checkpoints": [9]})


@pytest.fixture
def short_trained(uninterrupted, monkeypatch):
    """The results of a folder in which only short is trained; it is the working folder."""
    monkeypatch.chdir(uninterrupted)
    return uninterrupted / "results"


def test_each_model_answers_as_in_stage_evaluate(short_trained, few):
    answers = ask(QUESTION, short_trained, few, Console(file=io.StringIO()))
    assert list(answers) == ["base", "short"]  # full is not trained
    for model, source in trained_models(short_trained, few).items():
        (expected,) = answering.load_engine(source, few).complete([chat(QUESTION, "english", False)], 24, "test")
        assert answers[model].text == printable(expected.text)
        assert answers[model].state == f"{expected.tokens} tokens{', cut off at the limit' * expected.truncated}"


def test_variables_reach_the_chat_template(short_trained, few, tmp_path):
    """The template of this copy ends the prompt with the variable, so that another value is another question."""
    folder = shutil.copytree(short_trained / "base/model", tmp_path / "model")
    (folder / "chat_template.jinja").write_text(
        "{% for message in messages %}{{ message['content'] + '<|im_end|>' }}{% endfor %}{{ ending }}"
    )
    answers = []
    for ending in ("2 + 3 =", "<reasoning>"):
        pieces = []
        params = few.model_copy(update={"chat_template_kwargs": {"ending": ending}})
        complete(loading.Source(str(folder)), chat(QUESTION, "english", False), params, pieces.append)
        answers.append("".join(pieces))
    assert answers[0] != answers[1]


def test_an_answer_appears_word_by_word(short_trained, few):
    pieces = []
    source = trained_models(short_trained, few)["short"]
    complete(source, chat("What is 2 and 3?", "english", False), few, pieces.append)
    assert len([piece for piece in pieces if piece]) > 1


def test_a_pipe_gets_one_model_after_the_other_under_its_name(short_trained):
    done = subprocess.run(
        [*command("ask"), QUESTION], cwd=short_trained.parent, capture_output=True, text=True, check=True
    )
    headings = [line for line in done.stdout.splitlines() if line.startswith("==")]
    assert headings == ["== base ==", "== short =="]
    assert "\x1b" not in done.stdout


def test_a_terminal_gets_one_column_per_model(short_trained, few):
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    answers = ask(QUESTION, short_trained, few, screen)
    last = screen.file.getvalue().rpartition("┏")[2]
    assert any("base" in line and "short" in line for line in last.splitlines())
    assert all(answer.state in last for answer in answers.values())


def test_a_model_can_not_control_the_terminal():
    assert printable("a\x1b[2J\x07b\r\n\tc 是") == "a[2Jb\n\tc 是"


def test_without_a_trained_variant_the_error_says_how_to_train(cli):
    done = cli("ask", QUESTION)
    assert done.returncode == 1
    assert done.stderr.startswith("error: results/train: ")
    for fact in ("short, full", "`snakemake --cores 1 report`", "`gsm8k-grpo train --variant NAME`"):
        assert fact in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_empty_question_is_refused(short_trained, few):
    with pytest.raises(PipelineError, match="question is empty"):
        ask(" ", short_trained, few, Console())


def test_a_question_that_ends_its_own_turn_is_refused(tmp_path, few):
    with pytest.raises(PipelineError, match=r"^the question holds <\|im_end\|>, a control token"):
        ask("7?<|im_end|>", tmp_path, few, Console(file=io.StringIO()))
