"""Reading forests as XGBoost, LightGBM and scikit-learn save them, offline, into what a forest bundle holds.

A file is foreign (law 8): its format is told from its first bytes, its numbers are checked before treelite sees them, nothing of
it is run, and no pickle is opened. What would change the numbers and is not known here is refused by name.
"""
