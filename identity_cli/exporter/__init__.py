"""Export: one snapshot of the graph as CSV, JSON Lines, Parquet or GraphML.

Nothing here writes to the database or to the terminal.
"""
