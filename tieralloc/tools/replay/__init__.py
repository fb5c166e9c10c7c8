"""Replays a trace through a store."""
