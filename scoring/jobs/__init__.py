"""One file per verb: wiring, no logic. Every verb takes settings and returns a record; only `__main__` prints and exits."""
