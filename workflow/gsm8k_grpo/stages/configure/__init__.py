"""Stage `configure`: the resolved configuration in one file, which DVC compares key by key.

Imports no other stage.
"""
