"""GRPO on GSM8K with one card or none: download, extract, base, train, evaluate, compare, report."""

import os

# A run talks to whom its settings name and to nobody else: TRL (through the hub's library), MLflow, vLLM and Unsloth
# would each tell their makers of it.  They read this where they are imported, so it stands before them all; what the
# environment says already stays.
UNREPORTED = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "VLLM_NO_USAGE_STATS": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
}
os.environ.update(UNREPORTED | os.environ)
