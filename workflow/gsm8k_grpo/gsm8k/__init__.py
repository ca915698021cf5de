"""The task: how answers are read, how a model is prompted, what earns a reward, and problems in GSM8K's format.

Pure functions of texts.  May import `files` and `records` alone, so that everything else can build on it.
"""
