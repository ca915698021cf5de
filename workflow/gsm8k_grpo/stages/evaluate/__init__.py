"""Stage `evaluate`: every model answers the same questions; the answers are graded, and metrics computed."""
