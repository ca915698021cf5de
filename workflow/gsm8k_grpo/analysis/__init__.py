"""Statistics and their wording: intervals and tests, the verdict in words, number formats, and the metrics' names.

May import `records` and `files`; knows nothing of models, stages or MLflow.
"""
