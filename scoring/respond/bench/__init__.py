"""What `scoring bench` found: the results as plain data, which configuration to choose, the table, the picture.

Pure functions of what was measured. Nothing here measures, and nothing here knows Hydra, lanes or files.
"""
