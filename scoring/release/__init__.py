"""What may go out: pure functions from counts and limits to Checks, and from Checks to publish or hold."""
