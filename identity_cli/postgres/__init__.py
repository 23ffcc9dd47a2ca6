"""PostgreSQL: connections, driver errors, the embedded server, the schema with its functions.

Nothing here knows what a contact request is; whatever reads or writes the graph is in `graph`.
"""
