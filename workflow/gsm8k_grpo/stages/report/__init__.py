"""Stage `report`: one self-contained HTML page with all results, and its figures as PNG.

May use the definitions of the stages before it, `card` among them.
"""
