"""Measuring configurations: a sample of the dataset, one process for each configuration and round, the profile that is saved."""
