"""Is a row fit to be scored? Splits, never raises: good rows go on, bad rows leave unchanged with every reason they have.

Knows Arrow; does not know models, files or devices. Its whole answer is `Admitted`.
"""
