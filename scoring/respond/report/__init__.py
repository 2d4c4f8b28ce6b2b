"""The report of a run: one HTML file that needs nothing else, and two runs side by side. Facts in, text out: nothing here reads."""
