"""Sections of what follows training: evaluation, comparison, and the copies in MLflow."""

import re
from typing import Annotated
from urllib.parse import parse_qsl

from pydantic import Field, model_validator

from gsm8k_grpo.config import errors
from gsm8k_grpo.config.sections.data import QuestionSet
from gsm8k_grpo.config.sections.section import NAME, Count, Positive, Section, Text
from gsm8k_grpo.gsm8k.few_shot import BaselinePrompt

TRACKING_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")  # of MLflow; it refuses a file store
SECRET = re.compile(r"token|passw|pwd|secret|key|auth|cred|sig", re.IGNORECASE)  # in the name of an address's parameter


class Evaluate(Section):
    """What every model is asked."""

    questions: Count | None
    """Number of questions of the test split that every model answers; null takes all."""
    max_completion_length: Count
    """Longest answer in tokens; longer ones are cut."""
    batch_size: Count
    """Questions answered at the same time.  More are faster and take more memory."""
    max_model_length: Count | None
    """Longest prompt together with its answer in tokens, for engine vllm; null takes `vllm.max_model_length`.  Few-shot
    prompts are longer than those of training."""
    samples: Annotated[int, Field(ge=0)]
    """Answers sampled per question for mean@n, pass@k and maj@n; 0 samples none."""
    temperature: Positive
    """Sampling temperature of these answers; all other answers are greedy."""
    sampled_questions: Count | None
    """Number of questions of the test split with sampled answers; null takes all."""
    prompts: list[BaselinePrompt]
    """Further prompts for the test split, next to that of training: plain (the question alone, without the chat
    template), 4-shot and 8-shot (after that many solved problems of train)."""
    sets: dict[Annotated[str, Field(pattern=NAME)], QuestionSet]
    """Further test sets by name, each from the hub, from a file or generated.  Sets in a higher layer replace those
    below as a whole; `{}` is none."""
    more_sets: bool
    """Whether the sets of workflow/recipes/more-sets.yaml join those of `sets`: published variations of GSM8K, which
    come from the hub, and problems generated for this purpose, which no model has seen.  A set of the same name in
    `sets` replaces the one of the file."""
    contamination: bool
    """Whether every model also continues the first half of each question of the test split and of the further sets.
    How often it writes the second half word for word shows which questions it knows by heart."""
    overlap_words: Count
    """Words in a row that a test question must share with a train question to count as overlap."""
    probes: list[Text]
    """Questions that every model answers besides the test split; the report shows the answers side by side."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Evaluate":
        if "test" in self.sets:
            raise ValueError("sets.test: is the test split itself; choose another name for the further set")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError(f"prompts = {errors.as_written(self.prompts)}: must hold no prompt twice")
        return self


class Compare(Section):
    """How models are compared."""

    resamples: Annotated[int, Field(ge=100)]
    """Bootstrap resamples behind each interval of a mean or a difference.  More make the ends of the intervals more
    exact."""


class Tracking(Section):
    """MLflow, which gets a copy of every result."""

    uri: Text | None
    """Address of the MLflow server or database; null keeps the runs in tracking/mlflow.db.  Must not hold a password or
    a token: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN."""
    experiment: Text
    """Name of the MLflow experiment that the runs belong to."""

    @model_validator(mode="after")
    def _address_is_open(self) -> "Tracking":
        """MLflow knows the kind of address, and it holds no password, because it is shown and logged."""
        if self.uri is None:
            return self
        scheme = self.uri.partition(":")[0].partition("+")[0]
        names = [name for name, _ in parse_qsl(self.uri.partition("?")[2], keep_blank_values=True)]
        secret = next((name for name in names if SECRET.search(name)), None)
        if secret is not None:
            raise ValueError(
                f"uri: holds a secret ({secret}), which would reach the logs; leave it out of the address and set "
                "MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if "@" in self.uri and scheme != "sqlite":
            raise ValueError(
                "uri: holds a user name or a password, which would reach the logs; leave them out of the address and "
                "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if "://" not in self.uri or scheme not in TRACKING_SCHEMES:
            allowed = ", ".join(f"{scheme}://" for scheme in TRACKING_SCHEMES)
            raise ValueError(f"uri = {errors.as_written(self.uri)}: must begin with one of {allowed}")
        return self
