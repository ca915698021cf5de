"""The stages, one room each; a stage reads the files of earlier stages and writes its own folder under `results/`.

The same word names the room, the rule, the command, the results folder and the section of the report.  Stages do not
import each other; only `report` and `card` use the definitions of the stages whose files they read.
"""
