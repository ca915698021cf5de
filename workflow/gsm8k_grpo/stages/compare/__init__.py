"""Stage `compare`: paired differences between models, what they consist of, and the spread over seeds."""
