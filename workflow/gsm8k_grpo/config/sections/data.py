"""Sections of the data: where the problems come from, and how prompts and answers are made of them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from gsm8k_grpo.config.sections.section import Count, Section, Seed, Text
from gsm8k_grpo.gsm8k.answer_formats import AnswerForm
from gsm8k_grpo.gsm8k.problems import ProblemSet
from gsm8k_grpo.gsm8k.prompts import Answers, Language

AnswerComparison = Literal["number", "math_verify"]


class Hub(Section):
    """A data set on the Hugging Face hub."""

    dataset: Text
    """Name of the data set on the Hugging Face hub, such as `openai/gsm8k`."""
    configuration: Text | None
    """Configuration of the data set, which the hub calls a subset; null for a data set that has only one."""
    revision: Text
    """Commit, tag or branch of the data set.  Give a commit, so that everyone gets the same rows: a branch may move."""
    question_key: Text
    """Column with the question."""
    answer_key: Text
    """Column with the solution or the answer."""
    licence: Text
    """Licence of the data as its publisher states it.  Recorded with the results and shown in the model card."""


class Local(Section):
    """The columns of the files in a local folder."""

    question_key: Text
    """Column with the question."""
    answer_key: Text
    """Column with the solution or the answer."""


class HubSplit(Hub):
    """A split of a data set on the hub that serves as a test set."""

    split: Text
    """Split of the data set whose rows are the questions, such as `test`."""


class GeneratedSet(Section):
    """A generated test set."""

    problems: ProblemSet
    """Kind of problems: simple (one to three steps, results up to 20), rich (two to six steps, results up to 1,000,
    many stories) or longer (the stories of simple in four or five steps)."""
    rows: Count
    """Number of problems, all distinct."""
    seed: Seed | None = None
    """Seed of the problems; null takes `seed`.  Another one gives other problems than those that a model made here was
    trained on."""


class QuestionSet(Section):
    """A further test set: from the hub, from a file or generated."""

    hub: HubSplit | None = None
    """A split of a data set on the Hugging Face hub.  Set exactly one of `hub`, `path` and `generated`."""
    path: Text | None = None
    """A JSONL, CSV or Parquet file.  Set exactly one of `hub`, `path` and `generated`."""
    question_key: Text = "question"
    """Column of the file `path` with the question."""
    answer_key: Text = "answer"
    """Column of the file `path` with the answer: a number, or a solution that ends in `####` and a number."""
    generated: GeneratedSet | None = None
    """Generated problems.  Set exactly one of `hub`, `path` and `generated`."""
    comparison: AnswerComparison = "number"
    """How answers are compared with the gold answer: number, or math_verify (as formulas, by the library math-verify).
    With math_verify the report also has the accuracy on the questions whose answer is a number."""
    unanswerable: Text | None = None
    """The answer that marks a question which can't be answered, such as `None`.  These questions do not count for
    accuracy: the report shows what share of them gets a number all the same."""
    only_numbers: bool = False
    """Whether to leave out, and count, questions whose answer is not a number.  If false, such an answer is an
    error."""

    @model_validator(mode="after")
    def _one_origin(self) -> "QuestionSet":
        origins = [name for name in ("hub", "path", "generated") if getattr(self, name) is not None]
        if len(origins) != 1:
            raise ValueError(f"hub, path, generated: {len(origins)} of them are set; set exactly one")
        if self.only_numbers and self.comparison == "math_verify":
            raise ValueError(
                "only_numbers = true: comparison: math_verify also takes other answers; set one of the two"
            )
        if self.unanswerable and self.comparison == "math_verify":
            raise ValueError(
                f"unanswerable = {self.unanswerable}: comparison: math_verify reads formulas only; set one of the two"
            )
        return self


class Generated(Section):
    """Generated problems as the data set."""

    problems: ProblemSet
    """Kind of problems: simple (one to three steps, results up to 20), rich (two to six steps, results up to 1,000,
    many stories) or longer (the stories of simple in four or five steps)."""
    train_rows: Count
    """Number of problems in train, all distinct."""
    test_rows: Count
    """Number of problems in test, all distinct; none occurs in train."""


class Download(Section):
    """The data set of each `source`."""

    hub: Hub
    """The data set for `source: hub`."""
    local: Local
    """The files for `source: local`, which are in the folder `path`."""
    generated: Generated
    """The data set for `source: generated`."""


class Extract(Section):
    """How prompts and gold answers are made of the rows."""

    answers: Answers
    """What the answers of the data are: gsm8k (a number, or a solution that ends in `####` and a number; the
    prompt asks for reasoning and an answer in the form `answer_form`) or free (any text; the prompt asks for no form;
    only for method sft)."""
    answer_form: AnswerForm
    """The form of answers that the prompt asks for, and that rewards and grading read: tags (`<reasoning>` and
    `<answer>`), boxed (LaTeX's `\\boxed{}`) or hash (`####` before the answer, as in GSM8K's solutions)."""
    language: Language
    """Language of the system prompt and of the worked example: english or chinese."""
    system: str | None
    """System prompt in place of the built-in one, which depends on `answer_form` and `language`; an empty text leaves
    it out, null takes the built-in one.  It should ask for answers in the form `answer_form`."""
    one_shot: bool
    """Whether a worked example comes before the question in the prompt."""
    validation_rows: Annotated[int, Field(ge=0)]
    """Number of rows cut from train as the validation split, on which the kept checkpoints are evaluated.  With 0 all
    rows train, and the report has no accuracy over training."""

    @model_validator(mode="after")
    def _free_answers_have_no_format(self) -> "Extract":
        if self.answers == "free" and self.one_shot:
            raise ValueError(
                "one_shot = true: the worked example has a form, which answers: free does not ask for; set it to false"
            )
        if self.answers == "free" and self.answer_form != "tags":
            raise ValueError(f"answer_form = {self.answer_form}: answers: free has no form; leave answer_form: tags")
        return self
