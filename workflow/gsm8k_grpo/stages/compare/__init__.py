"""Stage `compare`: paired differences between models, what they are made of, and the spread over seeds.

Imports no other stage: it reads the graded answers of stage evaluate.
"""
