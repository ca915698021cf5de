"""Stage `report`: one self-contained page with all results of a run."""
