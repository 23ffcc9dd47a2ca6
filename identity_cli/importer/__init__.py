"""Import: from the bytes of an input to reconciled rows, with checkpoints, rejects and outcomes.

What a single request does to the graph is decided in `graph`; nothing here prints.
"""
