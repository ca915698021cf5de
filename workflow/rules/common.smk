# Until here `config` holds what --config gave; from here on it holds the whole, checked configuration.
import json
import os
from pathlib import Path

from gsm8k_grpo.config import layers, params
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import workspace
from snakemake.exceptions import WorkflowError


# The image of `--software-deployment-method apptainer`, and of nothing else: docs/container.md.
container: "containers/gsm8k-grpo.sif"


overrides = layers.typed(config)
# The stages read it from their environment: in their command line it would rerun all of them for any change.
os.environ[layers.ENVIRONMENT] = json.dumps(overrides)

try:
    settings = params.load(overrides=overrides)
    workspace.require_writable(Path("results"))
except PipelineError as error:
    raise WorkflowError(str(error)) from None

config = settings.resolved()
VARIANTS = list(settings.variants)
MODELS = ["base", *VARIANTS]
PROMPTS = config["evaluate"]["prompts"]  # beside that of training
SETS = list(config["evaluate"]["sets"])  # beside the test split
# Those with further seeds, which only the spread over the seeds is of.
FURTHER_RUNS = list(settings.further_runs)
# Without a validation split there is no learning curve; a method that learns from solutions has no rewards to draw.
LEARNING = ["learning"] if config["extract"]["validation_rows"] else []
REWARDS = ["rewards"] if any(settings.traits(variant).learns_from_rewards for variant in VARIANTS) else []
SAMPLED = ["sampled"] if config["evaluate"]["samples"] else []
FIGURES = ["accuracy", "gains", *SAMPLED, *LEARNING, *REWARDS, "training", "timing"]


def local_files(wildcards):
    """The files of source: local, so that a change in them is seen."""
    if config["source"] != "local":
        return []
    return expand("{folder}/{split}.jsonl", folder=config["path"], split=["train", "test"])


def local_sets(wildcards):
    """The same for the further test sets that are files."""
    return [wanted["path"] for wanted in config["evaluate"]["sets"].values() if wanted["path"]]


def weights(wildcards):
    """What must be there before a model can be evaluated; for a kept checkpoint it is its variant's training."""
    if wildcards.model not in settings.model_names():
        raise WorkflowError(f"no model {wildcards.model}: choose from {', '.join(settings.model_names())}")
    if wildcards.model == "base":
        return "results/base/base.json"
    return f"results/train/{wildcards.model.partition('@')[0]}/metrics.json"
