"""`gsm8k-grpo ask`: ask base and every trained variant one question, and see the answers appear side by side.

The models get the training prompt and decode greedily, as in stage `evaluate`.  They answer one after the other, so
a GPU that holds one of them is enough.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase, TextStreamer

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.prompts import prompt, require_plain
from gsm8k_grpo.models import engine, gpu, loading
from gsm8k_grpo.models.trained import weights
from gsm8k_grpo.records import Message

Write = Callable[[str], None]


@dataclass
class Answer:
    """What a model has written so far, and its state: waiting, writing, or how its answer ended."""

    text: str = ""
    state: str = "waiting"


class WordStreamer(TextStreamer):
    """transformers' streamer, which passes each whole word of the completion to `write` instead of printing it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Write):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.write(printable(text))


def ask(question: str, results: Path, params: Params, console: Console) -> dict[str, Answer]:
    """Have every model answer, in columns on a terminal or else one below the other; returns the answers.

    Raises:
        PipelineError: if the question is empty or holds a control token, nothing is trained yet, or the models need
            a GPU and there is none.
    """
    if not question.strip():
        raise PipelineError('the question is empty; ask one such as "Which is bigger? 9.919 or 9.92?"')
    try:
        require_plain(question, "the question")
    except ValueError as error:
        raise PipelineError(str(error)) from None
    sources = trained_models(results, params)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    torch.set_num_threads(params.threads)
    messages = prompt(question, params.extract)
    answers = {model: Answer() for model in sources}
    with (Columns if console.is_terminal else Sections)(answers, console) as view:
        for model, source in sources.items():
            with view.answering(model) as write:
                answers[model].state = complete(source, messages, params, write)
    return answers


def trained_models(results: Path, params: Params) -> dict[str, loading.Source]:
    """Where the weights of base and of every trained variant are."""
    variants = [variant for variant in params.variants if (results / "train" / variant / "model").is_dir()]
    if not variants:
        raise PipelineError(
            f"{results / 'train'}: no variant is trained yet; train them all with `snakemake --cores 1 report`, or one "
            f"with `gsm8k-grpo train --variant NAME` (NAME is one of {', '.join(params.variants)})"
        )
    return {model: weights(model, results / "base", results / "train") for model in ["base", *variants]}


@torch.inference_mode()
def complete(source: loading.Source, messages: list[Message], params: Params, write: Write) -> str:
    """Write a model's greedy completion word by word; returns its length, and whether it was cut off, as text."""
    model, tokenizer = loading.load(source, params)
    model.eval()
    ids = engine.tokenize_prompts([messages], tokenizer, params.chat_template_kwargs)
    prompt_ids = torch.tensor(ids, device=model.device)
    completed = cast(Any, model).generate(  # the type of PreTrainedModel lacks `generate`
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=params.evaluate.max_completion_length,
        do_sample=False,
        eos_token_id=engine.stop_tokens(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        streamer=WordStreamer(tokenizer, write),
    )
    completion = engine.read_completion(completed[0, prompt_ids.shape[1] :].tolist(), tokenizer)
    return f"{completion.tokens} tokens{', cut off at the limit' if completion.truncated else ''}"


def printable(text: str) -> str:
    """A model's text without characters that control the terminal."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


class Columns:
    """For a terminal: a table with one column per model, redrawn with every word."""

    def __init__(self, answers: dict[str, Answer], console: Console):
        self.answers = answers
        self.live = Live(self._table(), console=console, vertical_overflow="visible")

    def __enter__(self) -> "Columns":
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    @contextmanager
    def answering(self, model: str) -> Iterator[Write]:
        """Show what the block writes in the column of `model`."""

        def write(text: str) -> None:
            self.answers[model].text += text
            self.live.update(self._table())

        self.answers[model].state = "writing"
        write("")
        yield write
        write("")

    def _table(self) -> Table:
        table = Table(expand=True, show_lines=True)
        for model in self.answers:
            table.add_column(model, ratio=1, overflow="fold")
        table.add_row(*(Text(answer.text) for answer in self.answers.values()))
        table.add_row(*(Text(answer.state, style="dim") for answer in self.answers.values()))
        return table


class Sections:
    """For a file or a pipe: one model's answer below the other, each under its name."""

    def __init__(self, answers: dict[str, Answer], console: Console):
        self.answers, self.file = answers, console.file

    def __enter__(self) -> "Sections":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @contextmanager
    def answering(self, model: str) -> Iterator[Write]:
        """Print what the block writes under the name of `model`."""

        def write(text: str) -> None:
            self.answers[model].text += text
            print(text, end="", file=self.file, flush=True)

        print(f"== {model} ==", file=self.file)
        yield write
        print(f"\n({self.answers[model].state})\n", file=self.file, flush=True)
