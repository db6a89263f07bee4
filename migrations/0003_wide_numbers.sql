-- Version numbers past 32 bits, such as a timestamp (202609011230), and counts of any journal.
--
-- What it costs: these tables have a row for each version, gap, journal or file that was put aside. They are rewritten, and
-- whoever reads them waits that long: 0.06 s with 500 versions, 10,000 gaps and a million predictions. The tables of samples
-- and predictions keep their types: they hold `version_id`, which this database counts itself, and `predictions.value` has
-- been `double precision` all along. So no partition is locked or rewritten (2.7 s for one column of a million rows).

set local search_path to hoverboard, public;

-- Give up rather than make every reader queue behind a long query; the recorder tries again.
set local lock_timeout = '10s';

alter table model_versions alter column version type bigint;
alter table gaps
    alter column version type bigint,
    alter column segment type bigint;
alter table recorder_cursor alter column segment type bigint;
alter table quarantine
    alter column segment type bigint,
    alter column records type bigint;
