"""Stage `download`: the problems as published, from the hub, from a folder, or generated."""
