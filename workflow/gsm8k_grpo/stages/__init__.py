"""The stages of the pipeline, one room each: a stage reads the files of earlier stages and writes its own folder.

The same word names a stage's room, rule, command, results folder and section of the report; `stage.py` of a room runs
it.  Stages may import everything below them, but not each other.  Only `report` and `card` use definitions of the
stages whose files they read.
"""
