"""Hydra groups, one folder each, named after what they configure. A package, because Hydra finds `pkg://scoring.conf` only so."""
