"""What figures mean: intervals and tests, the words of the verdict, how values are written, and each metric's name.

May import `records` and `files`; knows nothing of models, stages or MLflow.
"""
