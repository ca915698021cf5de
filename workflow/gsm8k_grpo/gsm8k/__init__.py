"""The task: how GSM8K's answers are read, how a model is prompted, what earns a reward, and problems made in its format.

Pure functions of texts.  May import `files` and `records` alone, so that everything else can build on it.
"""
