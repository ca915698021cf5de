"""Stage `compare`: paired differences between models, the parts of these differences, and the spread over seeds.

Imports no other stage: it reads the graded answers of stage evaluate.
"""
