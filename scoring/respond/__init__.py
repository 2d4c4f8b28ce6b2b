"""Renders of the record for people and systems: progress, terminal summary. Nothing here decides, and nothing here can fail a run."""
