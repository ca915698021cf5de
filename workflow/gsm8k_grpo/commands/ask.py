"""`gsm8k-grpo ask`: one question to base and to every trained variant, answered side by side while they write.

The models get the training prompt and decode greedily, as the stage `evaluate` has them do.  They answer one after
the other, so that a card that holds one of them is enough.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedTokenizerBase, TextStreamer

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.gsm8k.prompts import prompt
from gsm8k_grpo.models import engine, gpu, loading
from gsm8k_grpo.stages.evaluate.stage import weights

Write = Callable[[str], None]


@dataclass
class Answer:
    """What a model has written so far, and what is to be said of it: that it waits, writes, or how it ended."""

    text: str = ""
    state: str = "waits"


class Pieces(TextStreamer):
    """transformers' streamer, which gives `write` each whole word of the completion instead of printing it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, write: Write):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        self.write(shown(text))


def ask(question: str, results: Path, params: Params, console: Console) -> dict[str, Answer]:
    """Have every model answer and show it: in columns on a terminal, else one model after the other.

    Raises:
        PipelineError: where nothing is trained yet, or what is trained needs a card that isn't there.
    """
    if not question.strip():
        raise PipelineError('the question is empty; give one, such as "Which is bigger? 9.919 or 9.92?"')
    asked = trained(results, params)
    gpu.require_gpu(params)
    gpu.limit_memory(params)
    torch.set_num_threads(params.threads)
    messages = prompt(question, params.extract.answers, params.extract.language, params.extract.one_shot)
    answers = {model: Answer() for model in asked}
    with (Columns if console.is_terminal else Sections)(answers, console) as view:
        for model, source in asked.items():
            with view.answering(model) as write:
                answers[model].state = complete(source, messages, params, write)
    return answers


def trained(results: Path, params: Params) -> dict[str, loading.Source]:
    """Where base is, and every variant whose weights are there."""
    variants = [variant for variant in params.variants if (results / "train" / variant / "model").is_dir()]
    if not variants:
        raise PipelineError(
            f"{results / 'train'}: nothing is trained yet (variants: {', '.join(params.variants)}); "
            "`snakemake --cores 1 report` trains them all, `gsm8k-grpo train --variant NAME` one"
        )
    return {model: weights(model, results / "base", results / "train") for model in ["base", *variants]}


@torch.inference_mode()
def complete(source: loading.Source, messages: list[dict[str, str]], params: Params, write: Write) -> str:
    """Write a model's greedy completion word by word; what is returned tells its length, and whether it was cut."""
    model, tokenizer = loading.load(source, params)
    model.eval()
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).to(model.device)
    ids = model.generate(
        **inputs,
        max_new_tokens=params.evaluate.max_completion_length,
        do_sample=False,
        eos_token_id=engine.stop_tokens(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        streamer=Pieces(tokenizer, write),
    )[0, inputs["input_ids"].shape[1] :]
    completion = engine.read_completion(ids.tolist(), tokenizer)
    return f"{completion.tokens} tokens{', cut off at the limit' if completion.truncated else ''}"


def shown(text: str) -> str:
    """A model's text without characters that would command the terminal."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")


class Columns:
    """A column a model on a terminal, drawn anew with every word."""

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
        def write(text: str) -> None:
            self.answers[model].text += text
            self.live.update(self._table())

        self.answers[model].state = "writes"
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
    """The models' answers one below the other, each under its name, where the output is no terminal."""

    def __init__(self, answers: dict[str, Answer], console: Console):
        self.answers, self.file = answers, console.file

    def __enter__(self) -> "Sections":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @contextmanager
    def answering(self, model: str) -> Iterator[Write]:
        def write(text: str) -> None:
            self.answers[model].text += text
            print(text, end="", file=self.file, flush=True)

        print(f"== {model} ==", file=self.file)
        yield write
        print(f"\n({self.answers[model].state})\n", file=self.file, flush=True)
