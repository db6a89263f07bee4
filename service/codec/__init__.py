"""What callers send becomes columns, what an engine answers becomes predictions; no transport, no engine.

In: JSON text or values (`arrays`), Arrow columns (`arrow_columns`), cells of CSV (`cells`). Out: for each input of a signature one
array `(n, *shape)`, or an error that points at the value at fault. And back: predictions as JSON (`predictions`).
"""
