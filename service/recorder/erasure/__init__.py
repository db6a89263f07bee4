"""Erasing: in comes a request, out go the rows it means, now and whenever a journal still brings some.

`erase` deletes from the tables and leaves a tombstone; `tombstones` says what a tombstone means; `put_aside` removes quarantined
files; `work_files` finds unfinished replays that hold what is gone; `everywhere` does all of it for the command.
"""
