-- What an alarm is made of since the time it seems to have begun, and the samples that were left out since they repeat another.
--
-- What it costs: one row a version is given defaults, without rewriting the tables.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

alter table alarms
    add column repeats bigint not null default 0,
    add column counts_since bigint[] not null default '{}',
    add column onset_rows bigint,
    add column onset_flagged bigint,
    add column onset_repeats bigint;
comment on column alarms.repeats is 'Samples left out since the last reset, since they repeat a recent one, such as retries.';
comment on column alarms.counts_since is
    'Samples, outliers and repeats since each of `since`, in threes; null where it is from before they were counted.';
comment on column alarms.onset_rows is
    'Samples counted since onset_at, and on; null while it is quiet, or where it began before they were counted.';
comment on column alarms.onset_flagged is 'Outliers among them.';
comment on column alarms.onset_repeats is 'Repeats left out since onset_at.';

alter table alarm_events
    add column onset_rows bigint,
    add column onset_flagged bigint,
    add column onset_repeats bigint;
comment on column alarm_events.onset_rows is
    'Samples counted since onset_at when it was raised; null for a reset, or where it began before they were counted.';
comment on column alarm_events.onset_flagged is 'Outliers among them.';
comment on column alarm_events.onset_repeats is 'Repeats left out since onset_at.';
