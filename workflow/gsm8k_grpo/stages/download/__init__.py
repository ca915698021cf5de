"""Stage `download`: the problems as published, from the hub, from a local folder, or generated.

Imports no other stage.
"""
