# `config` becomes the whole, checked configuration, with the overrides of --config.
import json
import os
from pathlib import Path

from gsm8k_grpo.config import layers, params
from gsm8k_grpo.config.overrides import from_snakemake
from gsm8k_grpo.config.resolved import resolved
from gsm8k_grpo.files import PipelineError
from gsm8k_grpo.runtime import workspace
from gsm8k_grpo.stages.download.local_files import split_files
from snakemake.exceptions import WorkflowError


# Used only with `--software-deployment-method apptainer`: docs/container.md.
container: "containers/gsm8k-grpo.sif"


try:
    overrides = from_snakemake(workflow.config_settings.configfiles, workflow.config_settings.config_args)
    settings = params.load(overrides=overrides)
    workspace.require_writable(Path("results"))
except PipelineError as error:
    raise WorkflowError(str(error)) from None

# The stages read the overrides from their environment.  In their command lines, any change would rerun all of them.
os.environ[layers.ENVIRONMENT] = json.dumps(overrides)
config = resolved(settings)
VARIANTS = list(settings.variants)
MODELS = ["base", *VARIANTS]
# Besides the training prompt; the first half of a question is the prompt of the contamination probe.
PROMPTS = config["evaluate"]["prompts"] + ["continuation"] * config["evaluate"]["contamination"]
SETS = list(config["evaluate"]["sets"])  # besides the test split
# Runs with further seeds; only the spread over the seeds uses them.
FURTHER_RUNS = list(settings.further_runs)
# Without a validation split there is no learning curve; a method that learns from solutions has no rewards to draw.
LEARNING = ["learning"] if config["extract"]["validation_rows"] else []
REWARDS = ["rewards"] if any(settings.traits(variant).learns_from_rewards for variant in VARIANTS) else []
SAMPLED = ["sampled"] if config["evaluate"]["samples"] else []
FIGURES = ["accuracy", "gains", *SAMPLED, *LEARNING, *REWARDS, "training", "timing"]


def local_files(wildcards):
    """The files of `source: local`, so that Snakemake notices a change in them."""
    if config["source"] != "local":
        return []
    folder = Path(config["path"])
    return [file for split in ("train", "test") for file in split_files(folder, split) or [folder / f"{split}.jsonl"]]


def local_sets(wildcards):
    """The further test sets that are files, for the same reason."""
    return [wanted["path"] for wanted in config["evaluate"]["sets"].values() if wanted["path"]]


def gpus(wildcards):
    """How many GPUs train a variant together."""
    return config["variants"][wildcards.variant]["gpus"] or config["gpus"]


# In profiles/slurm: the GPUs of a node of the cluster.
GPUS_PER_NODE = workflow.resource_settings._parsed_default_resources.get("gpus_per_node").value


def of_nodes(count):
    """The resources of a job of Slurm with more GPUs than a node has, by those of its plugin; none for other jobs.

    `count` is a function of the wildcards.  The plugin then starts no step for the job, which starts one of its own with a
    task per GPU.
    """

    def nodes(wildcards):
        wanted = count(wildcards)
        if GPUS_PER_NODE is None or wanted <= GPUS_PER_NODE:
            return None
        if wanted % GPUS_PER_NODE:
            raise WorkflowError(
                f"gpus = {wanted}: a node has {GPUS_PER_NODE} (gpus_per_node in the profile); set gpus to a multiple of it"
            )
        return wanted // GPUS_PER_NODE

    return {
        "nodes": nodes,
        "mpi": lambda wildcards: "srun" if nodes(wildcards) else None,
        "tasks": lambda wildcards: count(wildcards) if nodes(wildcards) else None,
        "tasks_per_gpu": lambda wildcards: 1 if nodes(wildcards) else None,
    }


def start(wildcards):
    """The folder with the weights that a variant's training starts from; none if it starts from base."""
    section = config["variants"].get(wildcards.variant)
    if section is None:
        raise WorkflowError(f"no variant {wildcards.variant}: choose from {', '.join(config['variants'])}")
    if section["start"] is None:
        return []
    name, at, _ = section["start"].partition("@")
    return f"results/train/{name}/{'checkpoints' if at else 'model'}"


def weights(wildcards):
    """The file that must exist before a model can be evaluated; a kept checkpoint needs its variant's training."""
    if wildcards.model not in settings.model_names():
        raise WorkflowError(f"no model {wildcards.model}: choose from {', '.join(settings.model_names())}")
    if wildcards.model == "base":
        return "results/base/base.json"
    return f"results/train/{wildcards.model.partition('@')[0]}/metrics.json"


try:
    workspace.require_past(Path("results"), [Path(file) for file in [*local_files(None), *local_sets(None)]])
except PipelineError as error:
    raise WorkflowError(str(error)) from None
