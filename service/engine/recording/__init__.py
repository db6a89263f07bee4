"""From executed batches to journal records.

In: batches that ran, and changes of what serves. Out: records in the engine's journal (`sink`), holding what the model's policy keeps of
each row (`policy`), and which rows repeat a recent one (`seen`). Decided before the journal, so that nothing else is on disk.
"""
