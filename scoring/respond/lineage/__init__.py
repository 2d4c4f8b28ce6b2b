"""OpenLineage: what was read, by which model and code, into what; built by the official client, told as a START, RUNNING while
it goes on, and how it ended.

https://openlineage.io/docs/spec. Nothing is sent from here, and no value of a row gets in.
"""
