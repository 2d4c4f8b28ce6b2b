"""Renders of the record for people and systems: progress, summary, manual. Nothing here decides, and nothing can fail a run."""
