"""The live page of a workspace: runs, progress, partitions, drift, quarantine, ledger, over HTTP.

Reads files only: writes nothing and takes no lock, so that no run can notice it. `shelf` reads, `runs`, `partitions`, `calendar`,
`drifts`, `losses` and `chain` make plain facts of what was read, `pages` makes HTML of facts, `access` says who may, `server` is the
only file that knows a framework. What is damaged is shown as damaged; no raw value of a row gets here.
"""
