"""GRPO on GSM8K: a pipeline that trains small language models, on one GPU or none, and reports what training changed.

The rooms, in reading order; each imports only from those after it in the layers of pyproject.toml:

- `cli`: the command line.
- `stages`: one room per stage: configure, download, extract, base, train, evaluate, compare, card and report.
- `commands`: what the command line offers besides the stages.
- `config`: recipes and params.yaml as one checked configuration.
- `gsm8k`: the task: problems, prompts, how answers are read, rewards.
- `models`: loading models and generating with them.  `memory`: whether a training run fits a GPU.
- `analysis`: statistics and the words for them.  `tracking`: MLflow.
- `runtime`: signals, locks and progress.  `files` and `records`: how stages exchange files, and what the rows hold.
"""

import os

# A run contacts only the services that its settings name.  TRL (through the hub's library), MLflow, vLLM and Unsloth
# would each report its use to their makers.  They read these variables when they are imported, so the package sets them
# first; a variable that the environment already has keeps its value.
TELEMETRY_OFF = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "VLLM_NO_USAGE_STATS": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
}
os.environ.update(TELEMETRY_OFF | os.environ)
