"""What `scoring backfill` is made of: request, models, which intervals are due and why, the pass over them, its account."""
