"""Stage `extract`: gold answers, prompts, a validation split, the further test sets, and their overlap with train.

`stage` extracts train and test, `sets` the further test sets, and `overlap` looks for test questions in train.
Imports no other stage.
"""
