"""The graph of who is who: normalisation, the service that reconciles, the proof.

Files, formats and terminals belong elsewhere; every way into and out of the graph builds on this.
"""
