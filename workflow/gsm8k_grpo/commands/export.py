"""`gsm8k-grpo export`: a trained variant in a folder of its own, for use outside of this project.

merged: one model as safetensors, with its tokenizer and chat template.  adapter: the adapter as training left it.
These have the model card beside them.  gguf: the merged model as one file, made by llama.cpp's own converter.  The
folder is written beside its place and renamed, so that an export is complete or absent.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from transformers import GenerationConfig, PreTrainedTokenizerBase

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import engine, loading
from gsm8k_grpo.stages.card import stage as card_stage
from gsm8k_grpo.stages.evaluate.stage import weights

Format = Literal["merged", "adapter", "gguf"]
FORMATS = get_args(Format)
CONVERTER = "convert_hf_to_gguf.py"
LLAMA_CPP = "LLAMA_CPP"  # names the folder of llama.cpp
NOT_EXPORTED = shutil.ignore_patterns(".*")  # Snakemake's marks


def export(variant: str, format: Format, results: Path, target: Path, params: Params) -> list[Path]:
    """Write the variant's model into `target`; the files that stand there then.

    Raises:
        PipelineError: where `target` holds something, the variant has no weights, or the format doesn't fit it.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PipelineError(f"--to {target}: holds something already; name a folder that is empty or not there yet")
    source = weights(variant, results / "base", results / "train")
    write = {"merged": _merged, "adapter": _adapter, "gguf": _gguf}[format]

    def fill(folder: Path) -> None:
        write(source, folder, variant, params)
        # Its figures come with the comparison, and its snippets load what is not GGUF.
        if format != "gguf" and (results / "compare" / "comparison.json").exists():
            card_stage.write(variant, results, folder / "README.md", ".", format == "adapter", params)

    _whole(target, fill)
    return sorted(target.iterdir())


def _whole(target: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder beside `target`, which then takes its place; an error leaves neither."""
    beside = target.with_name(target.name + ".part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        write(beside)
        beside.replace(target)  # an empty folder is replaced
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _merged(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    """The model with its adapter, if it has one, added to the weights that it was trained over."""
    if source.adapter is None:
        shutil.copytree(source.model, folder, ignore=NOT_EXPORTED, dirs_exist_ok=True)
        tokenizer = loading.load_tokenizer(source.model)
    else:
        # Weights in 4 bit can't take the sum; the adapter goes over the same weights unquantised.
        model, tokenizer = loading.load(source, params.model_copy(update={"quantization": None}))
        model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _state_ends(folder, tokenizer)


def _state_ends(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have whoever generates with the model stop where training did; a base model's own settings know no turns."""
    settings = GenerationConfig.from_pretrained(folder)
    settings.eos_token_id = engine.stop_tokens(tokenizer)
    settings.pad_token_id = tokenizer.pad_token_id
    settings.save_pretrained(folder)


def _adapter(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    if source.adapter is None:
        raise PipelineError(
            f"--format adapter: all weights of {variant} were trained, so that it has no adapter; "
            "choose from merged, gguf"
        )
    shutil.copytree(source.adapter, folder, ignore=NOT_EXPORTED, dirs_exist_ok=True)


def _gguf(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    """The merged model through llama.cpp's converter, in the type of its weights."""
    command = converter()
    merged = folder / "merged"
    merged.mkdir()
    _merged(source, merged, variant, params)
    made = folder / f"{variant}.gguf"
    done = subprocess.run([*command, str(merged), "--outfile", str(made)], capture_output=True, text=True)
    if done.returncode or not made.exists():
        told = (done.stderr.strip() or done.stdout.strip()).splitlines()[-5:]
        raise PipelineError("\n  ".join([f"--format gguf: {' '.join(command)} could not convert {variant}:", *told]))
    shutil.rmtree(merged)


def converter() -> list[str]:
    """The command of llama.cpp's converter: in the folder that LLAMA_CPP names, else on PATH.

    Raises:
        PipelineError: where there is none.
    """
    folder = os.environ.get(LLAMA_CPP)
    found = shutil.which(CONVERTER) if folder is None else Path(folder) / CONVERTER
    if found is None or not Path(found).is_file():
        raise PipelineError(
            f"--format gguf: {CONVERTER} of llama.cpp is not {'on PATH' if folder is None else f'in {folder}'}; "
            f"get https://github.com/ggml-org/llama.cpp, install what its requirements.txt names, and let {LLAMA_CPP} "
            "name its folder; or take --format merged"
        )
    # A program of PATH has an interpreter of its own, and the packages that it was installed with.
    return [str(found)] if os.access(found, os.X_OK) else [sys.executable, str(found)]
