"""The models, settings and folders of the measurements of scale.py."""

import shutil
from pathlib import Path
from typing import Any

import recipes
from gsm8k_grpo.config import params
from gsm8k_grpo.files import read_jsonl
from gsm8k_grpo.memory import shapes
from gsm8k_grpo.stages.base.corpus import Document
from random_model import filled_tokenizer, write_model
from recipes import ROOT, SMALL, SMALL_SHAPE, stage
from transformers import AutoConfig

SHAPE_3B, SHAPE_7B = "Qwen/Qwen2.5-3B", "Qwen/Qwen2.5-7B-Instruct"
COMMON = {
    "extract.validation_rows": 0, "evaluate.sets": {}, "evaluate.prompts": [], "evaluate.samples": 0,
    "evaluate.probes": [], "keep_checkpoints": [], "vram_gib": None, "train.save_steps": 10000,
    "sft.save_steps": 10000, "train.sample_prompts": 1,
}  # fmt: skip
GRAPHS = {"engine": "graphs", "vllm": None, "graphs": {"kv_cache_gib": 16, "max_num_seqs": 384, "compile": True}}
PROMPTS_A_GPU, COMPLETIONS = 4, 6  # of rtx4090
JOBS = ("sft", "zero")  # variants of smollm2
STEPS, WARM_UP = 40, 16  # optimizer steps, and how many of them are left out because they compile
SMALL_DATA = {
    "source": "generated", "path": None, "download.generated": {"problems": "rich", "train_rows": 400, "test_rows": 20},
}  # fmt: skip


class Bench:
    """Working folders, models and settings of the measurements.

    Args:
        gpus: the GPUs of the host that are used.
        data: a folder with GSM8K.
        model: a folder with SmolLM2; None with `small`.
        small: measure tiny models on the CPU, to try the script.
    """

    def __init__(self, work: Path, gpus: int, data: Path | None, model: Path | None, small: bool):
        self.work, self.gpus, self.data, self.small = work, gpus, data, small
        self.model = str(model or self.random_model(SHAPE_3B))

    def settings(self, recipe: str, **changes: Any) -> params.Params:
        """A recipe with the changes, whose keys have two underscores for a dot."""
        data = {"source": "local", "path": str(self.data)} if self.data else SMALL_DATA
        small = SMALL | {"train.compile": False, "train.prompts": None, "sft.max_length": 640} if self.small else {}
        named = {key.replace("__", "."): value for key, value in changes.items()}
        return params.load(ROOT / "params.yaml", {"recipe": recipe} | COMMON | data | small | named)

    def training(self, gpus: int) -> params.Params:
        """rtx4090 with 4 prompts a step on each GPU, and rewards drawn at random."""
        return self.settings(
            "rtx4090",
            gpus=gpus,
            model=str(self.random_model(SHAPE_3B)),
            train__per_device_train_batch_size=gpus * PROMPTS_A_GPU * COMPLETIONS,
            train__steps_per_generation=16,
            variants={"short": {"max_steps": 4 if self.small else STEPS} | recipes.RANDOM_REWARDS},
            **{} if self.small else GRAPHS,
        )

    def jobs(self) -> params.Params:
        """A few minutes of smollm2's variants sft and zero, each on one GPU."""
        steps = {"sft": 4, "zero": 4} if self.small else {"sft": 600, "zero": 120}
        variants = {name: {"max_steps": steps[name], "epochs": None} for name in JOBS}
        return self.settings("smollm2", model=self.model, variants=variants)

    def evaluation(self, gpus: int) -> params.Params:
        """Answers of the 3B shape to the test questions, one greedy and eight sampled."""
        return self.settings(
            "rtx4090",
            gpus=gpus,
            model=str(self.random_model(SHAPE_3B)),
            lora=None,
            train__per_device_train_batch_size=gpus * PROMPTS_A_GPU * COMPLETIONS,
            evaluate__max_completion_length=8 if self.small else 200,
            evaluate__samples=2 if self.small else 8,
            **{"evaluate__max_model_length": None} if self.small else GRAPHS,
        )

    def batch(self, gpus: int) -> params.Params:
        """smollm2's variant zero, whose steps are the same on any number of GPUs."""
        steps = 4 if self.small else 60
        return self.settings("smollm2", gpus=gpus, model=self.model, variants={"zero": {"max_steps": steps}})

    def sharded(self) -> params.Params:
        """All weights of a 7B shape, divided between the GPUs."""
        changes = {"model": SHAPE_7B, "gpus": self.gpus, "shard_weights": True, "precision": "bfloat16"}
        if self.small:
            changes = SMALL | changes | {"precision": "float32"}
        return recipes.settings_of("smollm2", 2 if self.small else 10, self.data, changes)

    def random_model(self, shape: str) -> Path:
        """A folder with random weights of a published shape, made once."""
        folder = self.work / shape.replace("/", "-")
        if not folder.exists():
            kind, published = shapes.PUBLISHED[shape]
            config = AutoConfig.for_model(kind, **published | (SMALL_SHAPE if self.small else {}))
            texts = [row["question"] for row in read_jsonl(self.data / "train.jsonl")] if self.data else ["1 + 1 = 2"]
            tokenizer = filled_tokenizer([Document([], text) for text in texts], config.vocab_size)
            write_model(folder, config, tokenizer)
        return folder

    def prepared(self, name: str, settings: params.Params) -> Path:
        """A new working folder in which the stages before training have run."""
        folder = self.work / name
        folder.mkdir()
        shutil.copy(ROOT / "params.yaml", folder)
        for command in ("download", "extract", "base"):
            stage(folder, settings, command)
        return folder
