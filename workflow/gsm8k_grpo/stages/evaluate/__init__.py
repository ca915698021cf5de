"""Stage `evaluate`: every model answers the same questions, answers are graded, and metrics are computed."""
