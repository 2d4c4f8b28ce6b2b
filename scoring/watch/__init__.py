"""What do the data look like, and is that what the model was made for? Counts in the pass, verdicts at commit.

A Summary is a commutative monoid of integer counts: merged over windows, slices and files it is the same to the byte however rows
were split. A baseline is the Summary of the training rows with the bin edges that all later counts use. Drift, causes and history
compare summaries and know no rows. Imports neither Polars nor the engine; SciPy only where something is to be proved.
"""
