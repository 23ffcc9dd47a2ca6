"""The identities that hubs split, replayed pair by pair."""
