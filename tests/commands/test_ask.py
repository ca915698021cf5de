"""`gsm8k-grpo ask`: what the models answer, and how it is shown."""

import io
import subprocess

import pytest
from gsm8k_grpo.commands.ask import ask, complete, shown, trained
from gsm8k_grpo.config.params import Params, load
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.prompts import chat
from gsm8k_grpo.stages.evaluate import answering
from project import ROOT
from rich.console import Console
from small_run import FEW, command

QUESTION = "Which is bigger? 9.919 or 9.92?"


@pytest.fixture(scope="module")
def few() -> Params:
    return load(ROOT / "params.yaml", FEW | {"keep_checkpoints": [9]})


@pytest.fixture
def at_work(uninterrupted, monkeypatch):
    """The folder in which short alone has been trained, as the working folder."""
    monkeypatch.chdir(uninterrupted)
    return uninterrupted / "results"


def test_each_model_answers_as_evaluate_has_it_answer(at_work, few):
    answers = ask(QUESTION, at_work, few, Console(file=io.StringIO()))
    assert list(answers) == ["base", "short"]  # full is not trained
    for model, source in trained(at_work, few).items():
        (expected,) = answering.load_engine(source, few).complete([chat(QUESTION, "english", False)], 24, "test")
        assert answers[model].text == shown(expected.text)
        assert answers[model].state == f"{expected.tokens} tokens{', cut off at the limit' * expected.truncated}"


def test_an_answer_comes_piece_by_piece(at_work, few):
    pieces = []
    source = trained(at_work, few)["short"]
    complete(source, chat("What is 2 and 3?", "english", False), few, pieces.append)
    assert len([piece for piece in pieces if piece]) > 1


def test_no_terminal_gets_one_model_after_the_other_under_its_name(at_work):
    done = subprocess.run([*command("ask"), QUESTION], cwd=at_work.parent, capture_output=True, text=True, check=True)
    headings = [line for line in done.stdout.splitlines() if line.startswith("==")]
    assert headings == ["== base ==", "== short =="]
    assert "\x1b" not in done.stdout


def test_a_terminal_gets_a_column_a_model(at_work, few):
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    answers = ask(QUESTION, at_work, few, screen)
    last = screen.file.getvalue().rpartition("┏")[2]
    assert any("base" in line and "short" in line for line in last.splitlines())
    assert all(answer.state in last for answer in answers.values())


def test_a_model_can_not_command_the_terminal():
    assert shown("a\x1b[2J\x07b\r\n\tc 是") == "a[2Jb\n\tc 是"


def test_it_says_that_nothing_is_trained_yet(cli):
    done = cli("ask", QUESTION)
    assert done.returncode == 1
    assert done.stderr == (
        "error: results/train: nothing is trained yet (variants: short, full); `snakemake --cores 1 report` trains "
        "them all, `gsm8k-grpo train --variant NAME` one\n"
    )


def test_an_empty_question_is_refused(at_work, few):
    with pytest.raises(PipelineError, match="the question is empty"):
        ask(" ", at_work, few, Console())
