"""PostgreSQL: connections, driver errors, the embedded server, the schema with its functions.

Nothing here knows what a contact request is; `graph` reads and writes the graph.
"""
