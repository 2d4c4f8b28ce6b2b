"""Which rows go together, and how many: budgets, splitting, bisection. Pure decisions; no torch, no clock, no I/O."""
