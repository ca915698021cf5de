"""The documents that a base model from scratch is pretrained on: the train split as the web would show it.

A web corpus holds the same problems in several styles, some with the work and some without, some with mistakes, and
each writer prefers a style.  This corpus imitates that, so that the model already has the skill that GRPO is to bring
out: it can reason step by step in the format that the prompt asks for, but mostly does not.
"""

import random
import re
import zlib
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from gsm8k_grpo.config.sections import Base, Styles
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.answer_formats import AnswerForm, formatted
from gsm8k_grpo.gsm8k.answers import same_answer
from gsm8k_grpo.gsm8k.numbers import DIGITS
from gsm8k_grpo.gsm8k.solutions import ANNOTATION, formatted_solution, work_of
from gsm8k_grpo.records import Example, Message

RESULT = re.compile(rf"(?<=[=>])(\s?\$?)(-?(?:{DIGITS}))")
DRILL_LINES = 12  # calculations in a drill


class Document(NamedTuple):
    """A chat of a prompt and a completion, or a drill: a completion without a prompt."""

    prompt: list[Message]
    completion: str


def corpus(rows: list[Example], base: Base, seed: int, form: AnswerForm = "tags") -> list[Document]:
    """The `steps * batch_size` documents of pretraining, in the order of training.

    With probability `base.drills` a document is a drill: calculations from the solutions of all rows.  All other
    documents take the rows in turn, and write a new completion each time that a row comes round.  Rows whose answer is
    not a number, which `extract.answers: free` allows, are left out, since every style ends with the answer.

    Raises:
        PipelineError: if no row has a number for an answer.
    """
    rows = [row for row in rows if row["answer"] is not None]
    if not rows:
        raise PipelineError(
            "extract.answers = free: no training row has a number for an answer, which a model from scratch learns; "
            "set answers: gsm8k, or another model than scratch"
        )
    rng = random.Random(seed)
    calculations = [annotation for row in rows for annotation in ANNOTATION.findall(row["solution"])]
    documents = []
    for index in range(base.steps * base.batch_size):
        if calculations and rng.random() < base.drills:
            documents.append(Document([], "\n".join(rng.choices(calculations, k=DRILL_LINES))))
        else:
            row = rows[index % len(rows)]
            text = completion(row, base.styles, base.favourite, base.slips, rng, form)
            documents.append(Document(row["prompt"], text))
    return documents


def completion(
    row: Example, styles: Styles, favourite: float, slips: float, rng: random.Random, form: AnswerForm = "tags"
) -> str:
    """A completion of one row in a style drawn by the weights `styles`.

    Args:
        favourite: probability that the style is the habit of the question's writer.  The first word of the question
            identifies the writer, and each writer's habit is drawn by the same weights.
        slips: probability that the result of the last calculation and the answer are wrong, both by the same amount.
        rng: source of all random draws except the habit, which depends on the writer alone.
        form: the form of answers that the prompt asks for.
    """
    names, weights = zip(*styles.model_dump().items(), strict=True)
    writer = random.Random(zlib.crc32(row["question"].split()[0].encode()))
    habit = writer.choices(names, weights)[0]
    style = habit if rng.random() < favourite else rng.choices(names, weights)[0]
    work, answer = work_of(row["solution"]), row["answer"]
    assert answer is not None, "corpus leaves out rows without a number"
    if rng.random() < slips:
        wrong = _slip(answer, rng)
        work, answer = _replace_last_result(work, answer, wrong), wrong
    return render(style, work, answer, form)


def render(style: str, work: str, answer: str, form: AnswerForm = "tags") -> str:
    """The completion that gives `answer` in a style; `work` still has its calculator annotations.

    Raises:
        ValueError: if there is no such style; the message lists the styles.
    """
    match style:
        case "terse":
            return f"The answer is {answer}."
        case "plain":
            return f"{work}\n#### {answer}"
        case "hurried":
            return formatted(form, "I know this one.", answer)
        case "tagged":
            return formatted_solution(work, answer, form)
    raise ValueError(f"style '{style}': choose from {', '.join(Styles.model_fields)}")


def _slip(answer: str, rng: random.Random) -> str:
    """A wrong answer close to the right one."""
    step = rng.choice([-10, -3, -2, -1, 1, 2, 3, 10])
    return str(Fraction(answer) + step) if "/" in answer else f"{Decimal(answer) + step:f}"


def _replace_last_result(work: str, answer: str, wrong: str) -> str:
    """The work with `wrong` for `answer`, where the last line gives the answer as a result: after `=` or `>>`."""
    before, newline, last = work.rpartition("\n")
    return before + newline + RESULT.sub(lambda m: m[1] + wrong if same_answer(m[2], answer) else m[0], last)
