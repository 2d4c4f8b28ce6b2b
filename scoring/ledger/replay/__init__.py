"""Published scores held against scores made again: which rows to look at, how far two answers lie apart, and what that is due to.

Decides on Arrow columns and recorded facts alone: nothing here reads a file, knows a model or a device. `jobs/replay.py` joins it
with what does.
"""
