"""A completion judged against the gold answer: strictly by the format that its prompt asks for, and flexibly.

Strict reads the tagged answer where the prompt is the training prompt, or the question alone: does a model keep the
trained format unasked?  Behind shots, and of free answers, it reads the number at the first `####`, the format that
these show.  Flexible reads the last number of the text, whatever the format.  The readings of lm-evaluation-harness
stand beside these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gsm8k_grpo.config.sections import Extract
from gsm8k_grpo.gsm8k import lm_eval
from gsm8k_grpo.gsm8k.answers import last_number, same_answer, xml_answer
from gsm8k_grpo.gsm8k.rewards.robust import well_formed
from gsm8k_grpo.models.engine import Completion

Row = dict[str, Any]


@dataclass(frozen=True)
class AnswerFormat:
    """A format of answers: how the strict answer is read, and whether a completion has the format."""

    strict: Callable[[str], str | None]
    well_formed: Callable[[str], bool]


TAGGED = AnswerFormat(xml_answer, well_formed)
MARKED = AnswerFormat(lm_eval.strict_answer, lambda text: lm_eval.strict_answer(text) is not None)


def trained_format(params: Extract) -> AnswerFormat:
    """The format of the answers that a model is trained on: free answers are judged by the mark of the data."""
    return MARKED if params.answers == "free" else TAGGED


def grade(row: Row, completion: Completion, form: AnswerFormat = TAGGED) -> Row:
    """A row of answers.jsonl for a row of a split."""
    return {
        "id": row["id"],
        "question": row["question"],
        "gold": row["answer"],
        "completion": completion.text,
        "strict_correct": same_answer(form.strict(completion.text), row["answer"]),
        "flexible_correct": same_answer(last_number(completion.text), row["answer"]),
        **lm_eval.right(completion.text, row["answer"]),
        "format_ok": form.well_formed(completion.text),
        "truncated": completion.truncated,
        "completion_tokens": completion.tokens,
    }


def grade_samples(row: Row, completions: list[Completion], form: AnswerFormat = TAGGED) -> Row:
    """A row of sampled.jsonl: the answers read from the sampled completions, and whether they are right."""
    strict, flexible = ([read(one.text) for one in completions] for read in (form.strict, last_number))
    return {
        "id": row["id"],
        "question": row["question"],
        "gold": row["answer"],
        "strict_answers": strict,
        "flexible_answers": flexible,
        "strict_correct": [same_answer(answer, row["answer"]) for answer in strict],
        "flexible_correct": [same_answer(answer, row["answer"]) for answer in flexible],
        "completion_tokens": [one.tokens for one in completions],
    }
