-- What Hoverboard remembers: samples, what was answered to them, what was missed, and how far recording has come.
--
-- Run by `hoverboard migrate` in one transaction. Never edited once released: its checksum is in schema_migrations.

create schema if not exists hoverboard;
comment on schema hoverboard is 'What a Hoverboard service was asked and answered. docs/sql.md asks it questions.';

set local search_path to hoverboard, public;

-- Roles: cluster-wide, so another database of this server may have made them already. ---------------------------------

do $$
declare
    wanted name;
begin
    foreach wanted in array array['recorder', 'reader']::name[] loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
        exception
            when duplicate_object or unique_violation then
                null; -- another database's migration was quicker
            when insufficient_privilege then
                raise insufficient_privilege using
                    message = format('the login %s may not create the role %s', current_user, wanted),
                    hint = 'Let an administrator run: create role recorder nologin; create role reader nologin;';
        end;
    end loop;
    -- So that one login can migrate and record: a recorder always steps down to the role `recorder`.
    if not pg_catalog.pg_has_role(current_user, 'recorder', 'member') then
        grant recorder, reader to current_user;
    end if;
exception
    when insufficient_privilege then
        if sqlerrm like '%may not create the role%' then
            raise;
        end if; -- roles made by an administrator are granted by one: docs/database.md
end
$$;

-- Time --------------------------------------------------------------------------------------------------------------

create function sample_at(id uuid) returns timestamptz
    language sql immutable strict parallel safe
    return (
        timestamp 'epoch'
        + make_interval(
            days => (('x' || encode(substring(uuid_send(id) from 1 for 6), 'hex'))::bit(48)::bigint / 86400000)::int
        )
        + (('x' || encode(substring(uuid_send(id) from 1 for 6), 'hex'))::bit(48)::bigint % 86400000)
            * interval '1 millisecond'
    ) at time zone 'UTC';
comment on function sample_at(uuid) is
    'When a UUIDv7 was made, to the millisecond. samples.at, predictions.at and outliers.at hold just this, so '
    '`where id = X and at = sample_at(X)` looks into one partition.';

-- Model versions and what serves --------------------------------------------------------------------------------------

create table model_versions (
    id int generated always as identity primary key,
    name text not null,
    version int not null,
    weights_sha256 text not null,
    manifest jsonb not null,
    parent_id int references model_versions (id),
    first_served_at timestamptz not null,
    unique (name, version, weights_sha256)
);
comment on table model_versions is
    'Every model version that ever answered. One number with other weights is another row.';
comment on column model_versions.id is 'What version_id means everywhere else.';
comment on column model_versions.name is 'Name of the model.';
comment on column model_versions.version is 'Number of the version.';
comment on column model_versions.weights_sha256 is 'SHA-256 of its artifact, in hex.';
comment on column model_versions.manifest is 'Its manifest.json without the checksums: inputs, outputs, labels, task.';
comment on column model_versions.parent_id is 'The version that it was made from, where that one was recorded too.';
comment on column model_versions.first_served_at is 'Time of the first batch or deployment that was recorded of it.';

create table deployments (
    at timestamptz not null,
    model text not null,
    role text not null,
    version_id int references model_versions (id),
    share real not null,
    reason text not null,
    actor text not null,
    process text not null
);
create index deployments_model_at on deployments (model, at);
comment on table deployments is
    'What serves, when it changed: one row for each change of a role and for each start of an engine.';
comment on column deployments.at is 'From when on.';
comment on column deployments.model is 'Name of the model.';
comment on column deployments.role is 'Such as `stable`.';
comment on column deployments.version_id is 'What answers from now on; null where nothing does.';
comment on column deployments.share is 'Of the traffic, 0 to 1.';
comment on column deployments.reason is 'One sentence.';
comment on column deployments.actor is '`admin`, or `disk` for a new version, an edited serving.toml or a start.';
comment on column deployments.process is 'The engine that changed, such as `engine-0`.';

-- Samples and what was answered to them: partitioned by day (UTC) of `at`. No foreign keys and no unique keys: that a
-- row is there once is the cursor's promise, and both would cost every insert. ----------------------------------------

create table samples (
    at timestamptz not null,
    id uuid not null,
    model text not null,
    inputs jsonb,
    vector real[],
    tensors bytea,
    tags jsonb,
    request_id text,
    traceparent text,
    incl_prob real not null check (incl_prob > 0 and incl_prob <= 1),
    why text not null
) partition by range (at);
create table samples_default partition of samples default;
create index samples_id on samples (id);
create index samples_at on samples using brin (at);
create index samples_tags on samples using gin (tags jsonb_path_ops) where tags is not null;
comment on table samples is 'What was asked: one row for each sample that was kept.';
comment on column samples.at is 'When it arrived: the time in its id, so sample_at(id).';
comment on column samples.id is 'The sample_id that the client was told, a UUIDv7.';
comment on column samples.model is 'Name of the model it was meant for.';
comment on column samples.inputs is
    'Numbers and texts by input name; null where redacted. A text that is no UTF-8 or holds a NUL is {"b64": ...}; '
    '"NaN", "Infinity", "-Infinity" and "-0" are strings. Under the policy `hashed` {"sha256": ...} is all there is.';
comment on column samples.vector is
    'The first input that is a vector of at most 4096 numbers which float32 holds exactly; null where redacted.';
comment on column samples.tensors is 'All other inputs by name, in the layout of safetensors.';
comment on column samples.tags is
    'What the caller said, such as {"customer": "17"}; null without. Here and in texts U+FFFD stands for a NUL.';
comment on column samples.request_id is 'X-Request-ID of its HTTP request, the caller''s or ours.';
comment on column samples.traceparent is 'W3C traceparent of its HTTP request.';
comment on column samples.incl_prob is
    'The probability with which a sample like this is kept. sum(1 / incl_prob) estimates how many there were.';
comment on column samples.why is 'Why it was kept: `all`, `sampled`, `outlier`, `error` or `low_margin`.';
comment on table samples_default is 'Samples whose clock was implausible, or whose day had no partition yet.';

create table predictions (
    at timestamptz not null,
    sample_id uuid not null,
    version_id int not null,
    role text,
    predicted_at timestamptz not null,
    label text,
    confidence real,
    value double precision,
    outputs real[],
    output_tensors bytea,
    p_value real,
    batch_id uuid not null,
    batch_size int not null,
    bucket int not null,
    queue_us int not null,
    infer_us int not null
) partition by range (at);
create table predictions_default partition of predictions default;
create index predictions_sample_id on predictions (sample_id);
create index predictions_at on predictions using brin (at);
comment on table predictions is
    'What was answered: one row for each sample and version that ran on it. Without one, the answer was an error.';
comment on column predictions.at is
    'The sample''s time, not the answer''s: joins on (at, sample_id) stay in one partition.';
comment on column predictions.sample_id is 'samples.id';
comment on column predictions.version_id is 'model_versions.id: what answered.';
comment on column predictions.role is 'Role it answered in, such as `stable`; null where the caller named a version.';
comment on column predictions.predicted_at is 'When its batch began to run.';
comment on column predictions.label is 'The most probable class, for a classification.';
comment on column predictions.confidence is 'Probability of that class, for a classification.';
comment on column predictions.value is 'The answer, for a regression.';
comment on column predictions.outputs is
    'The first output, where it is a vector of at most 4096 numbers which float32 holds exactly.';
comment on column predictions.output_tensors is 'All other outputs by name, in the layout of safetensors.';
comment on column predictions.p_value is 'Conformal p-value: small is strange. Null for a version without calibration.';
comment on column predictions.batch_id is 'Same for all that ran in one batch.';
comment on column predictions.batch_size is 'Samples in that batch, kept or not.';
comment on column predictions.bucket is 'Size it was padded to.';
comment on column predictions.queue_us is 'Microseconds that the sample waited for its batch.';
comment on column predictions.infer_us is 'Microseconds that the batch ran.';
comment on table predictions_default is 'Predictions whose clock was implausible, or whose day had no partition yet.';

create table outliers (
    at timestamptz not null,
    sample_id uuid not null,
    version_id int not null,
    detector text,
    scores jsonb,
    p_value real not null,
    issue_id bigint
) partition by range (at);
create table outliers_default partition of outliers default;
create index outliers_sample_id on outliers (sample_id);
create index outliers_at on outliers using brin (at);
comment on table outliers is
    'Samples that a version found strange: p_value at most its alpha, 0.01 unless it says otherwise.';
comment on column outliers.at is 'The sample''s time.';
comment on column outliers.sample_id is 'samples.id';
comment on column outliers.version_id is 'model_versions.id: what found it strange.';
comment on column outliers.detector is 'Name of the detector that decided; null where the version does not say.';
comment on column outliers.scores is
    'Scores of all detectors by name, higher is stranger; null until they are filled in.';
comment on column outliers.p_value is 'Conformal p-value.';
comment on column outliers.issue_id is 'The issue it was grouped into; null before grouping.';
comment on table outliers_default is 'Outliers whose clock was implausible, or whose day had no partition yet.';

create table rejections (
    at timestamptz not null,
    request_id text,
    traceparent text,
    method text,
    model text,
    version text,
    code int not null,
    kind text not null,
    pointer text,
    excerpt text,
    tags jsonb
) partition by range (at);
create table rejections_default partition of rejections default;
create index rejections_at on rejections using brin (at);
comment on table rejections is 'Calls that were refused, shed or timed out, and so have no samples.';
comment on column rejections.at is 'When it was answered.';
comment on column rejections.request_id is 'X-Request-ID of its HTTP request, the caller''s or ours.';
comment on column rejections.traceparent is 'W3C traceparent of its HTTP request.';
comment on column rejections.method is
    'JSON-RPC method as the caller wrote it; null where that far was not understood.';
comment on column rejections.model is 'Model as the caller wrote it.';
comment on column rejections.version is 'Version or role as the caller wrote it.';
comment on column rejections.code is 'JSON-RPC error code, such as -32602.';
comment on column rejections.kind is 'data.type of the error, such as `invalid_params`.';
comment on column rejections.pointer is 'JSON Pointer of the element at fault, such as /instances/3/17.';
comment on column rejections.excerpt is
    'What stood there, shortened; null where the model''s inputs are redacted, hashed or not recorded.';
comment on column rejections.tags is 'What the caller said about the call; null without.';
comment on table rejections_default is 'Rejections whose clock was implausible, or whose day had no partition yet.';

-- Labels: they come late, so they are in no partition and point at samples that may be gone. --------------------------

create table labels (
    sample_id uuid not null,
    labelled_at timestamptz not null,
    label text,
    value double precision,
    source text not null,
    author text
);
create index labels_sample_id on labels (sample_id);
create index labels_labelled_at on labels using brin (labelled_at);
comment on table labels is
    'What samples truly were, as somebody said. Append-only: of one sample and source the latest row holds.';
comment on column labels.sample_id is
    'samples.id, as the caller gave it: that sample may be expired, or never have been (an orphan).';
comment on column labels.labelled_at is 'When it was said.';
comment on column labels.label is 'The true class, for a classification.';
comment on column labels.value is 'The true value, for a regression.';
comment on column labels.source is 'Who says so, such as `support` or `relabelling-2026-03`.';
comment on column labels.author is 'The person, where known.';

-- Recording about itself ----------------------------------------------------------------------------------------------

create table gaps (
    at timestamptz not null,
    journal uuid not null,
    process text not null,
    model text,
    version int,
    reason text not null,
    frames bigint,
    records bigint,
    executed bigint,
    flagged bigint,
    first_at timestamptz,
    last_at timestamptz,
    segment int,
    position bigint,
    detail text
);
create index gaps_at on gaps (at);
comment on table gaps is 'What is missing, counted: records that were shed, damaged, expired or refused by Postgres.';
comment on column gaps.at is 'When the recorder wrote this row.';
comment on column gaps.journal is 'The journal they are missing from.';
comment on column gaps.process is 'The process that wrote that journal, such as `engine-0`.';
comment on column gaps.model is 'Model they belong to; null where unknown.';
comment on column gaps.version is 'Version they belong to; null where unknown.';
comment on column gaps.reason is
    'Such as `budget`, `disk full`, `damaged`, `missing`, `torn` (the last write of a process that was killed), '
    '`expired` or `quarantined`; `duplicate` has lost nothing.';
comment on column gaps.frames is 'Frames lost; null where unknown or where none was written.';
comment on column gaps.records is 'Records missing: kept samples, labels or rejections; null where nobody can say.';
comment on column gaps.executed is 'Samples that ran in batches of which nothing was written; null where unknown.';
comment on column gaps.flagged is 'Outliers among them; null where unknown.';
comment on column gaps.first_at is 'Time of the first of them; null where unknown.';
comment on column gaps.last_at is 'Time of the last of them; null where unknown.';
comment on column gaps.segment is 'Segment of the journal where the hole is.';
comment on column gaps.position is 'Byte in that segment where the hole begins.';
comment on column gaps.detail is 'One sentence more.';

create table recorder_cursor (
    journal uuid primary key,
    process text not null,
    segment int not null,
    position bigint not null,
    seq bigint not null,
    records bigint not null,
    gap_generation bigint not null,
    executed bigint not null,
    recorded bigint not null,
    started_at timestamptz not null,
    updated_at timestamptz not null,
    finished_at timestamptz
);
comment on table recorder_cursor is
    'How far each journal is in Postgres. It moves in the transaction that inserts the rows: hence exactly once.';
comment on column recorder_cursor.journal is 'Name of the journal''s directory, a UUIDv7.';
comment on column recorder_cursor.process is 'The process that writes it, such as `engine-0`.';
comment on column recorder_cursor.segment is 'The segment to read on in.';
comment on column recorder_cursor.position is 'The byte in it to read on at.';
comment on column recorder_cursor.seq is 'Frames of the journal before that.';
comment on column recorder_cursor.records is 'Records in those frames.';
comment on column recorder_cursor.gap_generation is 'The last of its counted gaps that is in the table gaps.';
comment on column recorder_cursor.executed is 'Samples that its batches ran, kept or not.';
comment on column recorder_cursor.recorded is 'Samples that were inserted.';
comment on column recorder_cursor.started_at is 'When the recorder first saw it.';
comment on column recorder_cursor.updated_at is 'When the cursor last moved.';
comment on column recorder_cursor.finished_at is
    'When all of it was in Postgres and nobody could add to it; null before.';

create table quarantine (
    at timestamptz not null,
    journal uuid not null,
    segment int not null,
    position bigint not null,
    seq bigint not null,
    records int not null,
    file text not null,
    sqlstate text,
    error text not null
);
create index quarantine_at on quarantine (at);
comment on table quarantine is 'Records that Postgres or the encoding refused: put aside in a file, each with a gap.';
comment on column quarantine.at is 'When.';
comment on column quarantine.journal is 'The journal it is from.';
comment on column quarantine.segment is 'The segment it is from.';
comment on column quarantine.position is 'Byte in that segment where its frame begins.';
comment on column quarantine.seq is 'Number of its frame in the journal.';
comment on column quarantine.records is 'How many.';
comment on column quarantine.file is 'Where they are, relative to the data directory.';
comment on column quarantine.sqlstate is 'What Postgres said, as a code; null where it never came that far.';
comment on column quarantine.error is 'The same in words, without values.';

create table erasures (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    kind text not null check (kind in ('sample', 'tag', 'age')),
    sample_id uuid,
    tag_key text,
    tag_digest text,
    model text,
    before timestamptz,
    actor text not null,
    reason text,
    rows_erased bigint not null,
    check (
        case kind
            when 'sample' then sample_id is not null
            when 'tag' then tag_key is not null and tag_digest is not null
            else before is not null
        end
    )
);
create index erasures_sample_id on erasures (sample_id) where sample_id is not null;
comment on table erasures is
    'What was erased, as tombstones: applied to what is drained later too, so that no journal brings it back.';
comment on column erasures.id is 'In the order they were asked for.';
comment on column erasures.at is 'When; samples that arrive later are not meant.';
comment on column erasures.kind is '`sample` (one id), `tag` (a subject) or `age` (all before a time).';
comment on column erasures.sample_id is 'The sample, for `sample`.';
comment on column erasures.tag_key is 'The tag''s name, for `tag`.';
comment on column erasures.tag_digest is
    'SHA-256 of the tag''s value in hex, for `tag`: a tombstone must not name the subject.';
comment on column erasures.model is 'Only of this model; null for all.';
comment on column erasures.before is 'All before this time, for `age`.';
comment on column erasures.actor is 'Who erased.';
comment on column erasures.reason is 'Why, as the actor put it.';
comment on column erasures.rows_erased is 'Rows deleted or never inserted so far, over all tables.';

create table schema_migrations (
    version int primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
);
comment on table schema_migrations is 'Which files of migrations/ made this schema.';
comment on column schema_migrations.version is 'The number that the file''s name begins with.';
comment on column schema_migrations.name is 'The file''s name.';
comment on column schema_migrations.sha256 is 'SHA-256 of the file, in hex: a file that was applied never changes.';
comment on column schema_migrations.applied_at is 'When.';

-- Partitions. Made by attaching, which lets inserts and queries of other days go on. Both functions give up on a lock
-- before Postgres' own deadlock check would pick a victim (1 s): the default partitions hold the rows meanwhile. Who
-- inserts takes the advisory lock shared: a row that is being routed when a partition is attached is refused. ---------

create function make_partitions(first_day date, last_day date) returns int
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
    foreach parent in array array['samples', 'predictions', 'outliers', 'rejections'] loop
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
comment on function make_partitions(date, date) is
    'Makes the missing partitions of all partitioned tables for these days (UTC), both included; moves the rows of '
    'those days out of the default partitions. Returns how many it made. Call it in a transaction of its own.';

create function drop_partitions(older_than timestamptz) returns table (partition text, rows bigint)
    language plpgsql security definer
    set search_path = pg_catalog, hoverboard, pg_temp
    set timezone = 'UTC'
    set lock_timeout = '500ms'
as $$
declare
    parent text;
begin
    perform pg_advisory_xact_lock(hashtextextended('hoverboard.partitions', 0));
    foreach parent in array array['samples', 'predictions', 'outliers', 'rejections'] loop
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
comment on function drop_partitions(timestamptz) is
    'Drops the partitions that hold nothing but rows older than this time, and deletes such rows from the default '
    'partitions. Returns what it dropped: a partition''s name, and the rows deleted or null for a whole partition. '
    'Call it in a transaction of its own.';

-- Privileges. Rows are reached through the partitioned tables: nobody needs a right on a partition to write to it. ----

revoke all on function make_partitions(date, date), drop_partitions(timestamptz) from public;
grant execute on function make_partitions(date, date), drop_partitions(timestamptz) to recorder;

grant usage on schema hoverboard to recorder, reader;
grant select on all tables in schema hoverboard to recorder, reader;
alter default privileges in schema hoverboard grant select on tables to recorder, reader;

grant insert on
    model_versions, deployments, samples, predictions, outliers, rejections, labels, gaps, recorder_cursor, quarantine,
    erasures
    to recorder;
grant update on recorder_cursor to recorder;
grant update (parent_id, first_served_at) on model_versions to recorder;
grant update (rows_erased) on erasures to recorder;
grant delete on samples, predictions, outliers, rejections, labels to recorder;
