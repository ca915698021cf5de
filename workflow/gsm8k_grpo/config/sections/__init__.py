"""The sections of the configuration and the types of their keys, by topic; each section is checked by itself.

What one section requires of another is checked in `params.Params`.
"""

from gsm8k_grpo.config.sections.configuration import Configuration
from gsm8k_grpo.config.sections.data import (
    Download,
    Extract,
    Generated,
    GeneratedSet,
    Hub,
    HubSplit,
    Local,
    QuestionSet,
)
from gsm8k_grpo.config.sections.evaluation import Compare, Evaluate, Tracking
from gsm8k_grpo.config.sections.model import Architecture, Base, Graphs, Lora, Styles, Vllm, vllm_rank
from gsm8k_grpo.config.sections.section import NAME, Count, Positive, Section, Seed, Text
from gsm8k_grpo.config.sections.training import OnlineDpo, Ppo, Rewards, Sft, Train, Variant
from gsm8k_grpo.records import Method

__all__ = [
    "NAME",
    "Architecture",
    "Base",
    "Compare",
    "Configuration",
    "Count",
    "Download",
    "Evaluate",
    "Extract",
    "Generated",
    "GeneratedSet",
    "Graphs",
    "Hub",
    "HubSplit",
    "Local",
    "Lora",
    "Method",
    "OnlineDpo",
    "Positive",
    "Ppo",
    "QuestionSet",
    "Rewards",
    "Section",
    "Seed",
    "Sft",
    "Styles",
    "Text",
    "Tracking",
    "Train",
    "Variant",
    "Vllm",
    "vllm_rank",
]
