"""Grade completions against the gold answer: strictly, by the format that the prompt asks for, and flexibly.

Strict grading reads the answer in the format of the training prompt, even if the prompt was the question alone.  That
shows whether a model keeps the trained format when nothing asks for it.  After few-shot examples, and for free answers,
it reads the number after the first `####`, because that is the format that the examples or the data show.

Flexible grading reads the last number of the text, whatever the format.  Both begin after the last `</think>`.  Every
answer is also graded as lm-evaluation-harness does, which reads the whole text and compares it with the published gold.

A question that can't be answered is graded as correct if there is no number where each reading looks for one.

In sets with `comparison: math_verify` the library math-verify compares the same two readings as formulas.
"""

from typing import cast

from gsm8k_grpo.gsm8k import formulas, lm_eval
from gsm8k_grpo.gsm8k.answer_formats import AnswerFormat
from gsm8k_grpo.gsm8k.answers import last_number, same_answer
from gsm8k_grpo.models.engine import Completion
from gsm8k_grpo.records import Example, GradedAnswer, GradedSamples


def grade(example: Example, completion: Completion, format: AnswerFormat) -> GradedAnswer:
    """The row of answers.jsonl for an example and the completion that answers it."""
    text, gold = completion.text, example["answer"] or ""
    return {
        "id": example["id"],
        "question": example["question"],
        "gold": gold,
        "completion": text,
        "strict_correct": same_answer(format.strict_answer(text), gold),
        "flexible_correct": same_answer(last_number(text), gold),
        "harness_strict": lm_eval.strict_correct(text, example["solution"]),
        "harness_flexible": lm_eval.flexible_correct(text, example["solution"]),
        "format_ok": format.well_formed(text),
        "truncated": completion.truncated,
        "completion_tokens": completion.tokens,
    }


def grade_formula(example: Example, completion: Completion, format: AnswerFormat) -> GradedAnswer:
    """What `grade` returns, and math-verify's comparison of the answer with the gold formula, which may be a number."""
    row, gold = grade(example, completion, format), formulas.published_formula(example["solution"])
    strict = formulas.same_formula(format.strict_answer(completion.text), gold)
    flexible = formulas.ends_in_formula(completion.text, gold)
    row |= {"math_verify_strict": strict, "math_verify_flexible": flexible}
    if example["answer"] is None:
        row |= {"gold": gold, "strict_correct": strict, "flexible_correct": flexible}
    return row


def grade_unanswerable(example: Example, completion: Completion, format: AnswerFormat) -> GradedAnswer:
    """What `grade` returns, for a question that can't be answered: correct are the answers without a number."""
    text = completion.text
    return {
        **grade(example, completion, format),
        "gold": example["solution"],
        "strict_correct": last_number(format.strict_answer(text) or "") is None,
        "flexible_correct": last_number(text) is None,
    }


def grade_samples(example: Example, completions: list[Completion], format: AnswerFormat) -> GradedSamples:
    """The row of sampled.jsonl for an example and the completions sampled for it."""
    gold = cast(str, example["answer"])  # extract keeps only examples of the test split that have a number
    strict = [format.strict_answer(completion.text) for completion in completions]
    flexible = [last_number(completion.text) for completion in completions]
    return {
        "id": example["id"],
        "question": example["question"],
        "gold": gold,
        "strict_answers": strict,
        "flexible_answers": flexible,
        "strict_correct": [same_answer(answer, gold) for answer in strict],
        "flexible_correct": [same_answer(answer, gold) for answer in flexible],
        "completion_tokens": [completion.tokens for completion in completions],
    }
