"""GRPO on GSM8K with one card or none: download, extract, base, train, evaluate, compare, report."""
