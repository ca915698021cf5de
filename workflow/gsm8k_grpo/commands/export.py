"""`gsm8k-grpo export`: write a trained variant into a folder of its own, for use outside this project.

The format `merged` is one model as safetensors, with its tokenizer and chat template; `adapter` is the adapter as it
was trained.  Both come with the model card if the variant has been compared.  The format `gguf` is the merged model as
one file, converted by llama.cpp.

An export is complete or absent: the folder gets its name when all files are written.  No existing file is replaced.
"""

import errno
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, cast, get_args

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedTokenizerBase

from gsm8k_grpo.config.params import Params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.models import engine, loading
from gsm8k_grpo.models.trained import weights
from gsm8k_grpo.stages.card import stage as card_stage

Format = Literal["merged", "adapter", "gguf"]
FORMATS: tuple[Format, ...] = get_args(Format)
CONVERTER = "convert_hf_to_gguf.py"
LLAMA_CPP = "LLAMA_CPP"  # environment variable that names the folder of llama.cpp
NOT_EXPORTED = shutil.ignore_patterns(".*")  # Snakemake's timestamps
SHOWN_LINES = 5  # lines shown of the converter's error


def export(variant: str, format: Format, results: Path, target: Path, params: Params) -> list[Path]:
    """Write the variant's model into the folder `target`; returns the files written.

    Raises:
        PipelineError: if `target` is not empty or can't be replaced, the variant has no weights, or the format does not
            suit it.
    """
    if target.is_symlink() or target.is_mount():
        raise PipelineError(f"--to {target}: is a link or a mount point; name the folder itself, or a new one in it")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise PipelineError(f"--to {target}: is not empty; name an empty folder, or one that does not exist yet")
    source = weights(variant, results / "base", results / "train")
    write = {"merged": _merged, "adapter": _adapter, "gguf": _gguf}[format]
    with _new_folder(target) as folder:
        write(source, folder, variant, params)
        # The card quotes the comparison, and its code examples do not load GGUF files.
        if format != "gguf" and (results / "compare" / "comparison.json").exists():
            card_stage.write(variant, results, folder / "README.md", ".", format == "adapter", params)
    return sorted(target.iterdir())


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give the block a folder to fill, which afterwards becomes `target`; if the block fails, the folder is removed.

    Until then it has a random name, which no file of the user has.  Renaming it can replace only an empty folder.

    Raises:
        PipelineError: if files have appeared in `target` meanwhile, for example those of another export.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The folder is next to `target`, because the model card names other folders relative to its own.
    folder = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
        folder.replace(target)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        raise PipelineError(f"--to {target}: is not empty any more; name another folder") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it still exists only if it did not become `target`


def _merged(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    """Write the whole model; an adapter is added to the weights that it was trained on."""
    if source.adapter is None:
        shutil.copytree(source.model, folder, ignore=NOT_EXPORTED, dirs_exist_ok=True)
        tokenizer = loading.load_tokenizer(source.model)
    else:
        # An adapter can't be added to 4-bit weights, so the same weights are loaded without quantisation.
        model, tokenizer = loading.load(source, params.model_copy(update={"quantization": None}))
        cast(PeftModel, model).merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_end_tokens(folder, tokenizer)


def _write_end_tokens(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make other programs stop where training did; a base model's own settings do not know the end of a turn."""
    settings = GenerationConfig.from_pretrained(folder)
    settings.eos_token_id = engine.stop_tokens(tokenizer)
    settings.pad_token_id = tokenizer.pad_token_id
    settings.save_pretrained(folder)


def _adapter(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    if source.adapter is None:
        raise PipelineError(
            f"--format adapter: all weights of {variant} were trained, so it has no adapter; choose from merged, gguf"
        )
    shutil.copytree(source.adapter, folder, ignore=NOT_EXPORTED, dirs_exist_ok=True)


def _gguf(source: loading.Source, folder: Path, variant: str, params: Params) -> None:
    """Write the merged model, converted by llama.cpp without a change of the weights' type."""
    command = converter()
    merged = folder / "merged"
    merged.mkdir()
    _merged(source, merged, variant, params)
    file = folder / f"{variant}.gguf"
    conversion = subprocess.run([*command, str(merged), "--outfile", str(file)], capture_output=True, text=True)
    if conversion.returncode or not file.exists():
        output = (conversion.stderr.strip() or conversion.stdout.strip()).splitlines()[-SHOWN_LINES:]
        raise PipelineError("\n  ".join([f"--format gguf: {' '.join(command)} could not convert {variant}:", *output]))
    shutil.rmtree(merged)


def converter() -> list[str]:
    """The command that runs llama.cpp's converter, from the folder that LLAMA_CPP names or else from PATH.

    Raises:
        PipelineError: if there is none.
    """
    folder = os.environ.get(LLAMA_CPP)
    path = shutil.which(CONVERTER) if folder is None else Path(folder) / CONVERTER
    if path is None or not Path(path).is_file():
        raise PipelineError(
            f"--format gguf: {CONVERTER} of llama.cpp is not {'on PATH' if folder is None else f'in {folder}'}; "
            f"get https://github.com/ggml-org/llama.cpp, install what its requirements.txt lists, and set {LLAMA_CPP} "
            "to its folder; or choose --format merged"
        )
    # An executable file names the Python that it was installed with.
    return [str(path)] if os.access(path, os.X_OK) else [sys.executable, str(path)]
