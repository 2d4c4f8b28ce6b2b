"""Renders of the record for people and systems: progress, summary, manual; and what is told of a run when it has ended, and while
it goes on: lineage, metrics, alerts, retraining events. Nothing here decides, and nothing can fail a run.

A teller is a function from a `Story` (what the run left in its workspace) to `Message`s; `teller.py` calls it, in a process of its
own, keeps the messages in the outbox and delivers them. `live.py` does so while the run goes on.
"""
