"""The task: how answers are read, how a model is prompted, which completions earn rewards, and generated problems.

Pure functions of texts.  May import only `files` and `records`, so that everything else can build on it.
"""
