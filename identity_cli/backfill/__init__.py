"""Requests of many files reconciled together, by sets instead of one after the other."""
