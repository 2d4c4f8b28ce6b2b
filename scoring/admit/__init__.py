"""Is a row fit to be scored? Splits, never raises: good rows go on, bad rows leave unchanged with every reason they have.

Knows Arrow; does not know models, files or devices. Its whole answer is `Admitted`.

A contract is a dataframely schema (`rules.compile_rules(…).schema()`), and two ways lead to its verdicts. dataframely takes 264 ms
for a million rows of ten columns, half of what scoring takes; so rules of columns are judged in Arrow and numpy, which find a clean
window clean in a tenth of that, Polars matches patterns, and dataframely judges row rules on the rows that a quick look in numpy
(or Polars, where numpy cannot) suspects. A property test holds both ways to the same verdicts.
"""
