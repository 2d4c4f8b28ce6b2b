"""Who calls the command: Airflow and Dagster. They schedule, retry and show; all else is the command's.

One file for each, which alone may import it, and needs nothing of this package but `command.py`: both stand in environments of
their own, without torch. No other room imports this one. Nothing here reads a workspace or decides about rows.
"""
