"""One slice on one device: read, admit, encode, score, stage, overlapped with bounded memory; the fallback ladder.

Does not know pools, plans or ledgers: it is given a Slice and answers with a Receipt or a Failure.
"""
