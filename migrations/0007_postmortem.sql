-- What a postmortem asks for: which process answered, who called, features of samples, and what happened around them.
--
-- What it costs: new columns without values, and new tables, so no table is rewritten. samples and predictions are locked
-- for a moment.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

-- Who answered, and who asked -------------------------------------------------------------------------------------------

alter table predictions add column process text;
comment on column predictions.process is
    'The process that answered, such as `engine-0`; null for what an older Hoverboard recorded.';

alter table samples add column caller text;
comment on column samples.caller is
    'Who called, where callers have keys: the name of the key. Null without; what callers say of themselves is in tags.';

-- Features --------------------------------------------------------------------------------------------------------------

create table features (
    at timestamptz not null,
    sample_id uuid not null,
    version_id int not null,
    z bytea not null
) partition by range (at);
alter table features alter column z set storage external; -- numbers like these do not compress
create table features_default partition of features default;
create index features_sample_id on features (sample_id);
create index features_at on features using brin (at);
comment on table features is
    'What a version''s detectors see of a sample: of every recorded outlier, and of those samples whose id ends in a byte '
    'below 13 (5%): get_byte(uuid_send(sample_id), 15) < 13. Nothing of a model whose inputs are redacted, hashed or not '
    'recorded, since z tells about them. May lack rows where the engine was busy or the journal''s disk budget short.';
comment on column features.at is 'The sample''s time.';
comment on column features.sample_id is 'samples.id';
comment on column features.version_id is 'model_versions.id: the version whose features they are; others have other features.';
comment on column features.z is
    'The features as float16, little-endian, two bytes each: what is beyond +-65504 is that. manifest -> ''outliers'' says what '
    'they are: of a layer, the outputs or the inputs.';
comment on table features_default is 'Features whose clock was implausible, or whose day had no partition yet.';

-- Both functions as before, with features among the tables.

create or replace function make_partitions(first_day date, last_day date) returns int
    language plpgsql security definer
    set search_path = pg_catalog, hoverboard, pg_temp
    set timezone = 'UTC'
    set lock_timeout = '500ms'
as $$
declare
    parent text;
    day date;
    partition text;
    made int := 0;
begin
    if last_day - first_day > 400 then
        raise exception 'partitions from % to %: expected at most 400 days', first_day, last_day;
    end if;
    perform pg_advisory_xact_lock(hashtextextended('hoverboard.partitions', 0));
    foreach parent in array array['samples', 'predictions', 'outliers', 'features', 'rejections'] loop
        for day in select d::date from generate_series(first_day::timestamp, last_day::timestamp, '1 day') as d loop
            partition := parent || to_char(day, '_YYYY_MM_DD');
            continue when to_regclass(format('hoverboard.%I', partition)) is not null;
            execute format(
                'create table hoverboard.%I (like hoverboard.%I including all excluding indexes excluding comments)',
                partition, parent
            );
            -- A day whose rows came before its partition: they move, or attaching would be refused.
            execute format('lock table hoverboard.%I in access exclusive mode', parent || '_default');
            execute format(
                'with moved as (delete from hoverboard.%I where at >= $1 and at < $2 returning *) '
                'insert into hoverboard.%I select * from moved',
                parent || '_default', partition
            ) using day::timestamptz, (day + 1)::timestamptz;
            execute format(
                'alter table hoverboard.%I attach partition hoverboard.%I for values from (%L) to (%L)',
                parent, partition, day::timestamptz, (day + 1)::timestamptz
            );
            made := made + 1;
        end loop;
    end loop;
    return made;
end
$$;

create or replace function drop_partitions(older_than timestamptz) returns table (partition text, rows bigint)
    language plpgsql security definer
    set search_path = pg_catalog, hoverboard, pg_temp
    set timezone = 'UTC'
    set lock_timeout = '500ms'
as $$
declare
    parent text;
begin
    perform pg_advisory_xact_lock(hashtextextended('hoverboard.partitions', 0));
    foreach parent in array array['samples', 'predictions', 'outliers', 'features', 'rejections'] loop
        for partition in
            select c.relname
            from pg_inherits i join pg_class c on c.oid = i.inhrelid
            where i.inhparent = format('hoverboard.%I', parent)::regclass
                and c.relname ~ ('^' || parent || '_\d{4,}_\d{2}_\d{2}$')
                and to_date(right(c.relname, -length(parent) - 1), 'YYYY_MM_DD') + 1 <= older_than
            order by c.relname
        loop
            execute format('drop table hoverboard.%I', partition);
            rows := null;
            return next;
        end loop;
        partition := parent || '_default';
        execute format('delete from hoverboard.%I where at < $1', partition) using older_than;
        get diagnostics rows = row_count;
        if rows > 0 then
            return next;
        end if;
    end loop;
end
$$;

-- What happened ---------------------------------------------------------------------------------------------------------

create table process_events (
    at timestamptz not null,
    process text not null,
    kind text not null check (kind in ('start', 'stop', 'death')),
    detail text
);
create index process_events_at on process_events (at);
comment on table process_events is
    'Starts and ends of the service''s processes, as the supervisor saw them. A start of `supervisor` without a stop before it: '
    'the supervisor was killed, or its machine went down, and all the others with it.';
comment on column process_events.at is 'When, by the clock of the machine that serves.';
comment on column process_events.process is 'Such as `engine-0`, or `supervisor` for the service as a whole.';
comment on column process_events.kind is '`start`, `stop` (it was asked to) or `death` (it was not).';
comment on column process_events.detail is 'How it ended, in words, such as `killed by SIGKILL`; null for nothing to add.';

create index gaps_time on gaps (coalesce(first_at, at));

create view events as
select d.at, d.model, v.version, 'deployment' as kind, d.role as subject,
    case when d.version_id is null then 'nothing answers' else 'version ' || v.version || ' answers' end
        || ' on ' || d.process || ': ' || d.reason || ' (' || d.actor || ')' as detail
from deployments d
left join model_versions v on v.id = d.version_id
union all
select a.at, v.name, v.version, case a.kind when 'raised' then 'alarm' else 'alarm_reset' end, 'outliers',
    case a.kind
        when 'raised' then case
            when a.onset_rows is null then a.flagged || ' outliers among ' || a.rows || ' samples'
            else a.onset_flagged || ' outliers among ' || a.onset_rows || ' samples since ' || a.onset_at
        end
        else 'reset by ' || coalesce(a.actor, 'somebody') || coalesce(': ' || a.reason, '')
    end
from alarm_events a
join model_versions v on v.id = a.version_id
union all
select coalesce(g.first_at, g.at), g.model, g.version, 'gap', g.process,
    g.reason || ': ' || coalesce(g.records::text, 'an unknown number of') || ' records' || coalesce(' until ' || g.last_at, '')
from gaps g
where g.reason <> 'duplicate'
union all
select e.at, null, null, e.kind, e.process, e.detail
from process_events e;
comment on view events is
    'What happened, on one time axis: deployments, alarms, gaps, and starts and ends of processes. Give `at` a range.';
comment on column events.at is 'When; of a gap the time of its first record, or when it was found where nobody knows.';
comment on column events.model is 'Name of the model; null where all are meant.';
comment on column events.version is 'Number of the version; null where none or all are meant.';
comment on column events.kind is '`deployment`, `alarm`, `alarm_reset`, `gap`, `start`, `stop` or `death`.';
comment on column events.subject is
    'What it happened to: the role of a deployment, `outliers` for an alarm, else the process, such as `engine-0`.';
comment on column events.detail is 'The rest, in words.';

-- Answers ---------------------------------------------------------------------------------------------------------------

-- The other tables are looked up for one row at a time and not joined: a range on `at` reaches predictions only, and a join
-- would read the other tables' days from the first to the last. What a query does not ask for is not looked up at all.
create view answers as
select p.at, p.sample_id, v.name as model, v.version, p.role, p.process, s.caller, s.tags, p.label, p.labels, p.confidence,
    p.value,
    (select l.label from labels l where l.sample_id = p.sample_id order by l.labelled_at desc limit 1) as true_label,
    (select l.labels from labels l where l.sample_id = p.sample_id order by l.labelled_at desc limit 1) as true_labels,
    (select l.value from labels l where l.sample_id = p.sample_id order by l.labelled_at desc limit 1) as true_value,
    (select l.source from labels l where l.sample_id = p.sample_id order by l.labelled_at desc limit 1) as label_source,
    (select l.labelled_at from labels l where l.sample_id = p.sample_id order by l.labelled_at desc limit 1) as labelled_at,
    p.p_value,
    case when p.p_value is not null then (
        select true from outliers o where o.sample_id = p.sample_id and o.at = p.at and o.version_id = p.version_id limit 1
    ) is not null end as outlier,
    (
        select o.detector from outliers o
        where o.sample_id = p.sample_id and o.at = p.at and o.version_id = p.version_id limit 1
    ) as detector,
    (
        select o.issue_id from outliers o
        where o.sample_id = p.sample_id and o.at = p.at and o.version_id = p.version_id limit 1
    ) as issue_id,
    s.inputs, s.vector, s.tensors, s.incl_prob, s.why, s.request_id, p.batch_id, p.batch_size, p.bucket, p.queue_us,
    p.infer_us, p.version_id
from predictions p
join model_versions v on v.id = p.version_id
left join lateral (
    select caller, tags, inputs, vector, tensors, incl_prob, why, request_id
    from samples
    where id = p.sample_id and at = p.at
    limit 1
) s on true;
comment on view answers is
    'What was answered, with what was asked and what is known of it since: one row for each sample and version that ran on '
    'it. Give `at` a range. Samples that ended in an error have no row.';
comment on column answers.at is 'predictions.at: the sample''s time.';
comment on column answers.sample_id is 'samples.id';
comment on column answers.model is 'Name of the model.';
comment on column answers.version is 'Number of the version that answered.';
comment on column answers.role is 'predictions.role';
comment on column answers.process is 'predictions.process';
comment on column answers.caller is 'samples.caller';
comment on column answers.tags is 'samples.tags';
comment on column answers.label is 'predictions.label';
comment on column answers.labels is 'predictions.labels';
comment on column answers.confidence is 'predictions.confidence';
comment on column answers.value is 'predictions.value';
comment on column answers.true_label is 'labels.label, of the last label that came; null without.';
comment on column answers.true_labels is 'labels.labels, likewise.';
comment on column answers.true_value is 'labels.value, likewise.';
comment on column answers.label_source is 'labels.source, likewise.';
comment on column answers.labelled_at is 'labels.labelled_at, likewise.';
comment on column answers.p_value is 'predictions.p_value';
comment on column answers.outlier is 'Whether the version found it strange; null for a version without calibration.';
comment on column answers.detector is 'outliers.detector; null for what is no outlier.';
comment on column answers.issue_id is 'outliers.issue_id, likewise.';
comment on column answers.inputs is 'samples.inputs';
comment on column answers.vector is 'samples.vector';
comment on column answers.tensors is 'samples.tensors';
comment on column answers.incl_prob is 'samples.incl_prob: a row stands for 1 / incl_prob samples.';
comment on column answers.why is 'samples.why';
comment on column answers.request_id is 'samples.request_id';
comment on column answers.batch_id is 'predictions.batch_id';
comment on column answers.batch_size is 'predictions.batch_size';
comment on column answers.bucket is 'predictions.bucket';
comment on column answers.queue_us is 'predictions.queue_us';
comment on column answers.infer_us is 'predictions.infer_us';
comment on column answers.version_id is 'model_versions.id';

-- What readers of the comments did not understand -----------------------------------------------------------------------

comment on column model_versions.id is
    'The number that this database gave it, which other tables call version_id. The model''s own number is version.';
comment on column deployments.at is 'From when on this version answered in this role, by the clock of the engine.';
comment on column gaps.reason is
    'Shed: `journal budget` (Postgres was away for too long), `journal cannot be written` (the disk was full or broken), '
    '`redact` (serving.toml hides something that the model does not have). Lost: `damaged` (the disk changed what was written), '
    '`missing` (files are gone), `removed by hand`, `torn` (the last write of a process that was killed, which nobody was '
    'answered). Not taken: `quarantined` (Postgres refused it; see the table quarantine), `expired` (it came after '
    'retention_days). `duplicate` has lost nothing. `hoverboard gaps` says what to do.';
comment on column alarms.since is
    'When each alternative rate would have begun, were it true: log_products and counts_since are counted from there, '
    'in the same order.';

-- Privileges ------------------------------------------------------------------------------------------------------------

grant insert, delete on features to recorder;
grant insert on process_events to recorder;
