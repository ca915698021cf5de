"""Stage `configure`: the resolved configuration in one file."""
