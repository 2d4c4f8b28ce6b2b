"""What happened, provably: hash-chained entries, one per publication or decision, and the record of each run.

Written by one process at a time (the holder of the workspace lock), from receipts; holds no row and no personal value.
"""
