"""Where scored rows go and when they count: staged files, publishing, reading back.

A staged file is created whole by put-if-absent; its existence is the fact "this slice is done", and its footer holds the receipt.
A partition is published by its manifest, put-if-absent by version. Knows stores and Arrow, not models or lanes.
"""
