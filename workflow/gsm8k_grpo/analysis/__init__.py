"""What results mean: intervals and tests, the verdict in words, how values are written, and the name of each metric.

May import only `files` and `records`, and knows nothing of models, stages or MLflow.
"""
