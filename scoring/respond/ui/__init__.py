"""The live page of a workspace: runs, progress, partitions, drift, quarantine, ledger, over HTTP.

Reads files only: writes nothing and takes no lock, so that no run can notice it. `shelf` reads; `runs`, `partitions`, `calendar`,
`drifts`, `losses` and `chain` make plain facts of what was read, `views` gathers them for a page, `pages` makes HTML of them.
`access` says who may look, `server` answers. What is damaged is shown as damaged; no raw value of a row gets here.
"""
