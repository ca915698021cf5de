"""The name of every metric, once."""

METRICS = {"strict_accuracy": "strict_correct", "flexible_accuracy": "flexible_correct"}
SHARES = {
    "strict_accuracy": "strict_correct",
    "flexible_accuracy": "flexible_correct",
    "harness_strict": "harness_strict",
    "harness_flexible": "harness_flexible",
    "format_rate": "format_ok",
    "truncation_rate": "truncated",
}
GREEDY = (*SHARES, "mean_completion_tokens")
EXTRACTIONS = ("strict", "flexible")
CURVE_SHARES = ("strict_accuracy", "flexible_accuracy", "format_rate")
FINALS = ("strict_accuracy", "flexible_accuracy", "format_rate", "truncation_rate", "mean_completion_tokens")
