"""Stage `report`: one self-contained page with everything the run found."""
