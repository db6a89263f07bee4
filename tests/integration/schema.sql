CREATE SCHEMA hoverboard;
COMMENT ON SCHEMA hoverboard IS 'What a Hoverboard service was asked and answered. docs/sql.md asks it questions.';
CREATE FUNCTION hoverboard.drop_partitions(older_than timestamp with time zone) RETURNS TABLE(partition text, rows bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'hoverboard', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '500ms'
    AS $_$
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
$_$;
COMMENT ON FUNCTION hoverboard.drop_partitions(older_than timestamp with time zone) IS 'Drops the partitions that hold nothing but rows older than this time, and deletes such rows from the default partitions. Returns what it dropped: a partition''s name, and the rows deleted or null for a whole partition. Call it in a transaction of its own.';
CREATE FUNCTION hoverboard.first_id(at timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ((lpad(to_hex((floor((EXTRACT(epoch FROM at) * (1000)::numeric)))::bigint), 12, '0'::text) || repeat('0'::text, 20)))::uuid;
COMMENT ON FUNCTION hoverboard.first_id(at timestamp with time zone) IS 'The least id of a time. `sample_id >= first_id(T)` are the samples from T on, found by the index on the id.';
CREATE FUNCTION hoverboard.is_right(label text, labels text[], true_label text, true_labels text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (labels IS NULL) THEN (label = true_label) ELSE ((labels @> COALESCE(true_labels, NULLIF(ARRAY[true_label], '{NULL}'::text[]))) AND (labels <@ COALESCE(true_labels, NULLIF(ARRAY[true_label], '{NULL}'::text[])))) END;
COMMENT ON FUNCTION hoverboard.is_right(label text, labels text[], true_label text, true_labels text[]) IS 'Whether an answer is what the label says: the class, or for a multi-label version all labels that hold and no other. Null where the two cannot be compared.';
CREATE FUNCTION hoverboard.judged(of_model text, from_at timestamp with time zone, until_at timestamp with time zone, of_source text DEFAULT NULL::text, within interval DEFAULT NULL::interval) RETURNS TABLE(at timestamp with time zone, sample_id uuid, version_id integer, role text, kind text, incl_prob real, label text, labels text[], confidence real, confidences real[], value double precision, true_label text, true_labels text[], true_value double precision, source text, labelled_at timestamp with time zone, first_labelled_at timestamp with time zone, correct boolean, error double precision)
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
    select p.at, p.sample_id, p.version_id, p.role, hoverboard.sample_kind(s.why, p.p_value, v.manifest), s.incl_prob,
        p.label, p.labels, p.confidence, p.confidences, p.value, t.label, t.labels, t.value, t.source, t.labelled_at,
        t.first_labelled_at, hoverboard.is_right(p.label, p.labels, t.label, t.labels),
        case when p.value is not null and t.value is not null
            then least(greatest(p.value, -1e70), 1e70) - least(greatest(t.value, -1e70), 1e70) end
    from (
        select distinct on (l.sample_id) l.sample_id, l.label, l.labels, l.value, l.source, l.labelled_at,
            min(l.labelled_at) over (partition by l.sample_id) as first_labelled_at
        from hoverboard.labels l
        where l.sample_id >= hoverboard.first_id(from_at) and l.sample_id < hoverboard.first_id(until_at + interval '1 ms')
            and (of_source is null or l.source = of_source)
            and (within is null or l.labelled_at <= hoverboard.sample_at(l.sample_id) + within)
        -- Several of one call have one time: of those the last that was written holds.
        order by l.sample_id, l.labelled_at desc, l.ctid desc
    ) t
    join hoverboard.predictions p on p.sample_id = t.sample_id and p.at = hoverboard.sample_at(t.sample_id)
    join hoverboard.samples s on s.id = p.sample_id and s.at = p.at
    join hoverboard.model_versions v on v.id = p.version_id
    where p.at >= from_at and p.at < until_at and s.at >= from_at and s.at < until_at and (of_model is null or v.name = of_model)
$$;
COMMENT ON FUNCTION hoverboard.judged(of_model text, from_at timestamp with time zone, until_at timestamp with time zone, of_source text, within interval) IS 'The labelled answers to samples of a model (null for all) and a time, a row each: what was answered, what was true by the latest label (of one source, or given within so long, where that is asked), whether it was right, how far a number was off, and the kind of sample.';
CREATE FUNCTION hoverboard.make_partitions(first_day date, last_day date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'hoverboard', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    SET lock_timeout TO '500ms'
    AS $_$
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
$_$;
COMMENT ON FUNCTION hoverboard.make_partitions(first_day date, last_day date) IS 'Makes the missing partitions of all partitioned tables for these days (UTC), both included; moves the rows of those days out of the default partitions. Returns how many it made. Call it in a transaction of its own.';
CREATE FUNCTION hoverboard.sample_at(id uuid) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ((('1970-01-01 00:00:00'::timestamp without time zone + make_interval(days => ((((('x'::text || encode(SUBSTRING(uuid_send(id) FROM 1 FOR 6), 'hex'::text)))::bit(48))::bigint / 86400000))::integer)) + (((((('x'::text || encode(SUBSTRING(uuid_send(id) FROM 1 FOR 6), 'hex'::text)))::bit(48))::bigint % (86400000)::bigint))::double precision * '00:00:00.001'::interval)) AT TIME ZONE 'UTC'::text);
COMMENT ON FUNCTION hoverboard.sample_at(id uuid) IS 'When a UUIDv7 was made, to the millisecond. samples.at, predictions.at and outliers.at hold just this, so `where id = X and at = sample_at(X)` looks into one partition.';
CREATE FUNCTION hoverboard.sample_kind(why text, p_value real, manifest jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ((why = 'outlier'::text) OR (p_value <= ((manifest #>> '{outliers,alpha}'::text[]))::double precision)) THEN 'outlier'::text WHEN (why = 'low_margin'::text) THEN 'low margin'::text ELSE 'ordinary'::text END;
COMMENT ON FUNCTION hoverboard.sample_kind(why text, p_value real, manifest jsonb) IS '`outlier`, `low margin` (kept for it under the policy `sampled`) or `ordinary`: what people choose samples to label by.';
CREATE TABLE hoverboard.alarm_events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    version_id integer NOT NULL,
    kind text NOT NULL,
    onset_at timestamp with time zone,
    log10_e double precision,
    rows bigint,
    flagged bigint,
    bound double precision,
    run_length bigint,
    actor text,
    reason text,
    onset_rows bigint,
    onset_flagged bigint,
    onset_repeats bigint,
    CONSTRAINT alarm_events_kind_check CHECK ((kind = ANY (ARRAY['raised'::text, 'reset'::text])))
);
COMMENT ON TABLE hoverboard.alarm_events IS 'Alarms that were raised, and resets.';
COMMENT ON COLUMN hoverboard.alarm_events.id IS 'In the order they were recorded.';
COMMENT ON COLUMN hoverboard.alarm_events.at IS 'Time of the samples that raised it, or of the reset.';
COMMENT ON COLUMN hoverboard.alarm_events.version_id IS 'model_versions.id';
COMMENT ON COLUMN hoverboard.alarm_events.kind IS '`raised` or `reset`.';
COMMENT ON COLUMN hoverboard.alarm_events.onset_at IS 'When what raised it seems to have begun; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.log10_e IS 'Decimal logarithm of the evidence; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.rows IS 'Samples counted since the reset before; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.flagged IS 'Outliers among them; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.bound IS 'The share of normal samples that may be flagged; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.run_length IS 'The setting alarm_run_length: samples between two false alarms, on average, at least; null for a reset.';
COMMENT ON COLUMN hoverboard.alarm_events.actor IS 'Who reset it; null where it was raised.';
COMMENT ON COLUMN hoverboard.alarm_events.reason IS 'Why, as the actor put it; null without.';
COMMENT ON COLUMN hoverboard.alarm_events.onset_rows IS 'Samples counted since onset_at when it was raised; null for a reset, or where it began before they were counted.';
COMMENT ON COLUMN hoverboard.alarm_events.onset_flagged IS 'Outliers among them.';
COMMENT ON COLUMN hoverboard.alarm_events.onset_repeats IS 'Repeats left out since onset_at.';
ALTER TABLE hoverboard.alarm_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.alarm_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE hoverboard.alarms (
    version_id integer NOT NULL,
    state text NOT NULL,
    bound double precision NOT NULL,
    rows bigint NOT NULL,
    flagged bigint NOT NULL,
    log10_e double precision NOT NULL,
    recent_rows double precision NOT NULL,
    recent_flagged double precision NOT NULL,
    log_sums double precision[] NOT NULL,
    log_products double precision[] NOT NULL,
    since timestamp with time zone[] NOT NULL,
    raised_at timestamp with time zone,
    onset_at timestamp with time zone,
    raised_log10_e double precision,
    raised_rows bigint,
    raised_flagged bigint,
    reset_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    repeats bigint DEFAULT 0 NOT NULL,
    counts_since bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    onset_rows bigint,
    onset_flagged bigint,
    onset_repeats bigint,
    CONSTRAINT alarms_check CHECK (((state = 'raised'::text) = (raised_at IS NOT NULL))),
    CONSTRAINT alarms_state_check CHECK ((state = ANY (ARRAY['quiet'::text, 'raised'::text])))
);
COMMENT ON TABLE hoverboard.alarms IS 'One row for each version with a calibrated detector: whether it finds more samples strange than it may.';
COMMENT ON COLUMN hoverboard.alarms.version_id IS 'model_versions.id';
COMMENT ON COLUMN hoverboard.alarms.state IS '`quiet`, or `raised` until somebody resets it.';
COMMENT ON COLUMN hoverboard.alarms.bound IS 'The share of normal samples that may be flagged; 95% sure by the calibration.';
COMMENT ON COLUMN hoverboard.alarms.rows IS 'Samples counted since the last reset; those that repeat a recent one are left out.';
COMMENT ON COLUMN hoverboard.alarms.flagged IS 'Outliers among them.';
COMMENT ON COLUMN hoverboard.alarms.log10_e IS 'Decimal logarithm of the evidence, at least 0; the alarm is raised at that of the setting alarm_run_length.';
COMMENT ON COLUMN hoverboard.alarms.recent_rows IS 'Samples counted, older ones with less weight: about the last ten thousand.';
COMMENT ON COLUMN hoverboard.alarms.recent_flagged IS 'Outliers among them, likewise: recent_flagged / recent_rows is the rate now.';
COMMENT ON COLUMN hoverboard.alarms.log_sums IS 'The evidence for each alternative rate, as natural logarithms.';
COMMENT ON COLUMN hoverboard.alarms.log_products IS 'The same since the most likely time of a change.';
COMMENT ON COLUMN hoverboard.alarms.since IS 'When each alternative rate would have begun, were it true: log_products and counts_since are counted from there, in the same order.';
COMMENT ON COLUMN hoverboard.alarms.raised_at IS 'Time of the samples that raised the alarm; null while it is quiet.';
COMMENT ON COLUMN hoverboard.alarms.onset_at IS 'When what raised it seems to have begun; null while it is quiet.';
COMMENT ON COLUMN hoverboard.alarms.raised_log10_e IS 'log10_e when it was raised; null while it is quiet.';
COMMENT ON COLUMN hoverboard.alarms.raised_rows IS 'rows when it was raised; null while it is quiet.';
COMMENT ON COLUMN hoverboard.alarms.raised_flagged IS 'flagged when it was raised; null while it is quiet.';
COMMENT ON COLUMN hoverboard.alarms.reset_at IS 'When it was last reset; samples from before that do not count.';
COMMENT ON COLUMN hoverboard.alarms.updated_at IS 'When the recorder last counted.';
COMMENT ON COLUMN hoverboard.alarms.repeats IS 'Samples left out since the last reset, since they repeat a recent one, such as retries.';
COMMENT ON COLUMN hoverboard.alarms.counts_since IS 'Samples, outliers and repeats since each of `since`, in threes; null where it is from before they were counted.';
COMMENT ON COLUMN hoverboard.alarms.onset_rows IS 'Samples counted since onset_at, and on; null while it is quiet, or where it began before they were counted.';
COMMENT ON COLUMN hoverboard.alarms.onset_flagged IS 'Outliers among them.';
COMMENT ON COLUMN hoverboard.alarms.onset_repeats IS 'Repeats left out since onset_at.';
CREATE TABLE hoverboard.labels (
    sample_id uuid NOT NULL,
    labelled_at timestamp with time zone NOT NULL,
    label text,
    value double precision,
    source text NOT NULL,
    author text,
    labels text[]
);
COMMENT ON TABLE hoverboard.labels IS 'What samples truly were, as somebody said. Append-only: of one sample and source the latest row holds.';
COMMENT ON COLUMN hoverboard.labels.sample_id IS 'samples.id, as the caller gave it: that sample may be expired, or never have been (an orphan).';
COMMENT ON COLUMN hoverboard.labels.labelled_at IS 'When it was said.';
COMMENT ON COLUMN hoverboard.labels.label IS 'The true class, for a classification. For a multi-label version: the one label that holds, and no other.';
COMMENT ON COLUMN hoverboard.labels.value IS 'The true value, for a regression.';
COMMENT ON COLUMN hoverboard.labels.source IS 'Who says so, such as `support` or `relabelling-2026-03`.';
COMMENT ON COLUMN hoverboard.labels.author IS 'The person, where known.';
COMMENT ON COLUMN hoverboard.labels.labels IS 'All labels that hold, sorted, where they were given as a list; empty where none does. Null for one label or a value.';
CREATE TABLE hoverboard.model_versions (
    id integer NOT NULL,
    name text NOT NULL,
    version bigint NOT NULL,
    weights_sha256 text NOT NULL,
    manifest jsonb NOT NULL,
    parent_id integer,
    first_served_at timestamp with time zone NOT NULL
);
COMMENT ON TABLE hoverboard.model_versions IS 'Every model version that ever answered. One number with other weights is another row.';
COMMENT ON COLUMN hoverboard.model_versions.id IS 'The number that this database gave it, which other tables call version_id. The model''s own number is version.';
COMMENT ON COLUMN hoverboard.model_versions.name IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.model_versions.version IS 'Number of the version.';
COMMENT ON COLUMN hoverboard.model_versions.weights_sha256 IS 'SHA-256 of its artifact, in hex.';
COMMENT ON COLUMN hoverboard.model_versions.manifest IS 'Its manifest.json without the checksums: inputs, outputs, labels, task.';
COMMENT ON COLUMN hoverboard.model_versions.parent_id IS 'The version that it was made from, where that one was recorded too.';
COMMENT ON COLUMN hoverboard.model_versions.first_served_at IS 'Time of the first batch or deployment that was recorded of it.';
CREATE TABLE hoverboard.outliers (
    at timestamp with time zone NOT NULL,
    sample_id uuid NOT NULL,
    version_id integer NOT NULL,
    detector text,
    scores jsonb,
    p_value real NOT NULL,
    issue_id bigint,
    fingerprint bigint
)
PARTITION BY RANGE (at);
COMMENT ON TABLE hoverboard.outliers IS 'Samples that a version found strange: p_value at most its alpha, 0.01 unless it says otherwise.';
COMMENT ON COLUMN hoverboard.outliers.at IS 'The sample''s time.';
COMMENT ON COLUMN hoverboard.outliers.sample_id IS 'samples.id';
COMMENT ON COLUMN hoverboard.outliers.version_id IS 'model_versions.id: what found it strange.';
COMMENT ON COLUMN hoverboard.outliers.detector IS 'Name of the detector that decided; null where the version does not say.';
COMMENT ON COLUMN hoverboard.outliers.scores IS 'Scores of all detectors by name, higher is stranger; null until they are filled in.';
COMMENT ON COLUMN hoverboard.outliers.p_value IS 'Conformal p-value.';
COMMENT ON COLUMN hoverboard.outliers.issue_id IS 'issues.id: the issue that its leader belongs to now; null before grouping, and for what was not grouped.';
COMMENT ON COLUMN hoverboard.outliers.fingerprint IS 'issue_fingerprints.id: the leader that it joined; null before grouping.';
CREATE TABLE hoverboard.predictions (
    at timestamp with time zone NOT NULL,
    sample_id uuid NOT NULL,
    version_id integer NOT NULL,
    role text,
    predicted_at timestamp with time zone NOT NULL,
    label text,
    confidence real,
    value double precision,
    outputs real[],
    output_tensors bytea,
    p_value real,
    batch_id uuid NOT NULL,
    batch_size integer NOT NULL,
    bucket integer NOT NULL,
    queue_us integer NOT NULL,
    infer_us integer NOT NULL,
    labels text[],
    confidences real[],
    process text
)
PARTITION BY RANGE (at);
COMMENT ON TABLE hoverboard.predictions IS 'What was answered: one row for each sample and version that ran on it. Without one, the answer was an error.';
COMMENT ON COLUMN hoverboard.predictions.at IS 'The sample''s time, not the answer''s: joins on (at, sample_id) stay in one partition.';
COMMENT ON COLUMN hoverboard.predictions.sample_id IS 'samples.id';
COMMENT ON COLUMN hoverboard.predictions.version_id IS 'model_versions.id: what answered.';
COMMENT ON COLUMN hoverboard.predictions.role IS 'Role it answered in, such as `stable`; null where the caller named a version.';
COMMENT ON COLUMN hoverboard.predictions.predicted_at IS 'When its batch began to run.';
COMMENT ON COLUMN hoverboard.predictions.label IS 'The most probable class, for a classification. Null for a multi-label version, whose answer is in labels.';
COMMENT ON COLUMN hoverboard.predictions.confidence IS 'Probability of that class, for a classification; null otherwise.';
COMMENT ON COLUMN hoverboard.predictions.value IS 'The answer, for a regression.';
COMMENT ON COLUMN hoverboard.predictions.outputs IS 'The first output, where it is a vector of at most 4096 numbers which float32 holds exactly.';
COMMENT ON COLUMN hoverboard.predictions.output_tensors IS 'All other outputs by name, in the layout of safetensors.';
COMMENT ON COLUMN hoverboard.predictions.p_value IS 'Conformal p-value: small is strange. Null for a version without calibration.';
COMMENT ON COLUMN hoverboard.predictions.batch_id IS 'Same for all that ran in one batch.';
COMMENT ON COLUMN hoverboard.predictions.batch_size IS 'Samples in that batch, kept or not.';
COMMENT ON COLUMN hoverboard.predictions.bucket IS 'Size it was padded to.';
COMMENT ON COLUMN hoverboard.predictions.queue_us IS 'Microseconds that the sample waited for its batch.';
COMMENT ON COLUMN hoverboard.predictions.infer_us IS 'Microseconds that the batch ran.';
COMMENT ON COLUMN hoverboard.predictions.labels IS 'Multi-label: every label at or above its threshold, most probable first; empty for none. Null for other tasks.';
COMMENT ON COLUMN hoverboard.predictions.confidences IS 'Multi-label: the probability of each of labels, in their order.';
COMMENT ON COLUMN hoverboard.predictions.process IS 'The process that answered, such as `engine-0`; null for what an older Hoverboard recorded.';
CREATE TABLE hoverboard.samples (
    at timestamp with time zone NOT NULL,
    id uuid NOT NULL,
    model text NOT NULL,
    inputs jsonb,
    vector real[],
    tensors bytea,
    tags jsonb,
    request_id text,
    traceparent text,
    incl_prob real NOT NULL,
    why text NOT NULL,
    caller text,
    CONSTRAINT samples_incl_prob_check CHECK (((incl_prob > (0)::double precision) AND (incl_prob <= (1)::double precision)))
)
PARTITION BY RANGE (at);
COMMENT ON TABLE hoverboard.samples IS 'What was asked: one row for each sample that was kept.';
COMMENT ON COLUMN hoverboard.samples.at IS 'When it arrived: the time in its id, so sample_at(id).';
COMMENT ON COLUMN hoverboard.samples.id IS 'The sample_id that the client was told, a UUIDv7.';
COMMENT ON COLUMN hoverboard.samples.model IS 'Name of the model it was meant for.';
COMMENT ON COLUMN hoverboard.samples.inputs IS 'Numbers and texts by input name; null where redacted. A text that is no UTF-8 or holds a NUL is {"b64": ...}; "NaN", "Infinity", "-Infinity" and "-0" are strings. Under the policy `hashed` {"sha256": ...} is all there is.';
COMMENT ON COLUMN hoverboard.samples.vector IS 'The first input that is a vector of at most 4096 numbers which float32 holds exactly; null where redacted.';
COMMENT ON COLUMN hoverboard.samples.tensors IS 'All other inputs by name, in the layout of safetensors.';
COMMENT ON COLUMN hoverboard.samples.tags IS 'What the caller said, such as {"customer": "17"}; null without. Here and in texts U+FFFD stands for a NUL.';
COMMENT ON COLUMN hoverboard.samples.request_id IS 'X-Request-ID of its HTTP request, the caller''s or ours.';
COMMENT ON COLUMN hoverboard.samples.traceparent IS 'W3C traceparent of its HTTP request.';
COMMENT ON COLUMN hoverboard.samples.incl_prob IS 'The probability with which a sample like this is kept. sum(1 / incl_prob) estimates how many there were.';
COMMENT ON COLUMN hoverboard.samples.why IS 'Why it was kept: `all`, `sampled`, `outlier`, `error` or `low_margin`.';
COMMENT ON COLUMN hoverboard.samples.caller IS 'Who called, where callers have keys: the name of the key. Null without; what callers say of themselves is in tags.';
CREATE VIEW hoverboard.answers AS
 SELECT p.at,
    p.sample_id,
    v.name AS model,
    v.version,
    p.role,
    p.process,
    s.caller,
    s.tags,
    p.label,
    p.labels,
    p.confidence,
    p.value,
    ( SELECT l.label
           FROM hoverboard.labels l
          WHERE (l.sample_id = p.sample_id)
          ORDER BY l.labelled_at DESC
         LIMIT 1) AS true_label,
    ( SELECT l.labels
           FROM hoverboard.labels l
          WHERE (l.sample_id = p.sample_id)
          ORDER BY l.labelled_at DESC
         LIMIT 1) AS true_labels,
    ( SELECT l.value
           FROM hoverboard.labels l
          WHERE (l.sample_id = p.sample_id)
          ORDER BY l.labelled_at DESC
         LIMIT 1) AS true_value,
    ( SELECT l.source
           FROM hoverboard.labels l
          WHERE (l.sample_id = p.sample_id)
          ORDER BY l.labelled_at DESC
         LIMIT 1) AS label_source,
    ( SELECT l.labelled_at
           FROM hoverboard.labels l
          WHERE (l.sample_id = p.sample_id)
          ORDER BY l.labelled_at DESC
         LIMIT 1) AS labelled_at,
    p.p_value,
        CASE
            WHEN (p.p_value IS NOT NULL) THEN (( SELECT true
               FROM hoverboard.outliers o
              WHERE ((o.sample_id = p.sample_id) AND (o.at = p.at) AND (o.version_id = p.version_id))
             LIMIT 1) IS NOT NULL)
            ELSE NULL::boolean
        END AS outlier,
    ( SELECT o.detector
           FROM hoverboard.outliers o
          WHERE ((o.sample_id = p.sample_id) AND (o.at = p.at) AND (o.version_id = p.version_id))
         LIMIT 1) AS detector,
    ( SELECT o.issue_id
           FROM hoverboard.outliers o
          WHERE ((o.sample_id = p.sample_id) AND (o.at = p.at) AND (o.version_id = p.version_id))
         LIMIT 1) AS issue_id,
    s.inputs,
    s.vector,
    s.tensors,
    s.incl_prob,
    s.why,
    s.request_id,
    p.batch_id,
    p.batch_size,
    p.bucket,
    p.queue_us,
    p.infer_us,
    p.version_id
   FROM ((hoverboard.predictions p
     JOIN hoverboard.model_versions v ON ((v.id = p.version_id)))
     LEFT JOIN LATERAL ( SELECT samples.caller,
            samples.tags,
            samples.inputs,
            samples.vector,
            samples.tensors,
            samples.incl_prob,
            samples.why,
            samples.request_id
           FROM hoverboard.samples
          WHERE ((samples.id = p.sample_id) AND (samples.at = p.at))
         LIMIT 1) s ON (true));
COMMENT ON VIEW hoverboard.answers IS 'What was answered, with what was asked and what is known of it since: one row for each sample and version that ran on it. Give `at` a range. Samples that ended in an error have no row.';
COMMENT ON COLUMN hoverboard.answers.at IS 'predictions.at: the sample''s time.';
COMMENT ON COLUMN hoverboard.answers.sample_id IS 'samples.id';
COMMENT ON COLUMN hoverboard.answers.model IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.answers.version IS 'Number of the version that answered.';
COMMENT ON COLUMN hoverboard.answers.role IS 'predictions.role';
COMMENT ON COLUMN hoverboard.answers.process IS 'predictions.process';
COMMENT ON COLUMN hoverboard.answers.caller IS 'samples.caller';
COMMENT ON COLUMN hoverboard.answers.tags IS 'samples.tags';
COMMENT ON COLUMN hoverboard.answers.label IS 'predictions.label';
COMMENT ON COLUMN hoverboard.answers.labels IS 'predictions.labels';
COMMENT ON COLUMN hoverboard.answers.confidence IS 'predictions.confidence';
COMMENT ON COLUMN hoverboard.answers.value IS 'predictions.value';
COMMENT ON COLUMN hoverboard.answers.true_label IS 'labels.label, of the last label that came; null without.';
COMMENT ON COLUMN hoverboard.answers.true_labels IS 'labels.labels, likewise.';
COMMENT ON COLUMN hoverboard.answers.true_value IS 'labels.value, likewise.';
COMMENT ON COLUMN hoverboard.answers.label_source IS 'labels.source, likewise.';
COMMENT ON COLUMN hoverboard.answers.labelled_at IS 'labels.labelled_at, likewise.';
COMMENT ON COLUMN hoverboard.answers.p_value IS 'predictions.p_value';
COMMENT ON COLUMN hoverboard.answers.outlier IS 'Whether the version found it strange; null for a version without calibration.';
COMMENT ON COLUMN hoverboard.answers.detector IS 'outliers.detector; null for what is no outlier.';
COMMENT ON COLUMN hoverboard.answers.issue_id IS 'outliers.issue_id, likewise.';
COMMENT ON COLUMN hoverboard.answers.inputs IS 'samples.inputs';
COMMENT ON COLUMN hoverboard.answers.vector IS 'samples.vector';
COMMENT ON COLUMN hoverboard.answers.tensors IS 'samples.tensors';
COMMENT ON COLUMN hoverboard.answers.incl_prob IS 'samples.incl_prob: a row stands for 1 / incl_prob samples.';
COMMENT ON COLUMN hoverboard.answers.why IS 'samples.why';
COMMENT ON COLUMN hoverboard.answers.request_id IS 'samples.request_id';
COMMENT ON COLUMN hoverboard.answers.batch_id IS 'predictions.batch_id';
COMMENT ON COLUMN hoverboard.answers.batch_size IS 'predictions.batch_size';
COMMENT ON COLUMN hoverboard.answers.bucket IS 'predictions.bucket';
COMMENT ON COLUMN hoverboard.answers.queue_us IS 'predictions.queue_us';
COMMENT ON COLUMN hoverboard.answers.infer_us IS 'predictions.infer_us';
COMMENT ON COLUMN hoverboard.answers.version_id IS 'model_versions.id';
CREATE TABLE hoverboard.baselines (
    version_id integer NOT NULL,
    "position" integer NOT NULL,
    feature text NOT NULL,
    side text NOT NULL,
    tensor text NOT NULL,
    reading text NOT NULL,
    element integer NOT NULL,
    missing boolean NOT NULL,
    cuts double precision[] NOT NULL,
    categories text[] NOT NULL,
    counts bigint[] NOT NULL,
    bins text[] NOT NULL
);
COMMENT ON TABLE hoverboard.baselines IS 'What a version''s traffic looked like when it was published: one row a feature, as in its baseline.arrow.';
COMMENT ON COLUMN hoverboard.baselines.version_id IS 'model_versions.id';
COMMENT ON COLUMN hoverboard.baselines."position" IS 'Order of the features, from 0.';
COMMENT ON COLUMN hoverboard.baselines.feature IS 'Name, such as `pixels[17]`, `title.length` or `confidence`.';
COMMENT ON COLUMN hoverboard.baselines.side IS '`input`, `output` or `prediction`.';
COMMENT ON COLUMN hoverboard.baselines.tensor IS 'Name of the input or output, or `label`, `confidence`, `value`, `p_value`.';
COMMENT ON COLUMN hoverboard.baselines.reading IS 'What is read of it, such as `element`, `mean` or `category`.';
COMMENT ON COLUMN hoverboard.baselines.element IS 'Index in the flattened tensor, for `element`.';
COMMENT ON COLUMN hoverboard.baselines.missing IS 'Whether the last bin is for NaN.';
COMMENT ON COLUMN hoverboard.baselines.cuts IS 'Ascending numbers between the bins; empty for categories.';
COMMENT ON COLUMN hoverboard.baselines.categories IS 'Texts that have a bin of their own; empty for numbers.';
COMMENT ON COLUMN hoverboard.baselines.counts IS 'Samples of the reference in each bin.';
COMMENT ON COLUMN hoverboard.baselines.bins IS 'The bins in words.';
CREATE TABLE hoverboard.deployments (
    at timestamp with time zone NOT NULL,
    model text NOT NULL,
    role text NOT NULL,
    version_id integer,
    share real NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    process text NOT NULL
);
COMMENT ON TABLE hoverboard.deployments IS 'What serves, when it changed: one row for each change of a role and for each start of an engine.';
COMMENT ON COLUMN hoverboard.deployments.at IS 'From when on this version answered in this role, by the clock of the engine.';
COMMENT ON COLUMN hoverboard.deployments.model IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.deployments.role IS 'Such as `stable`.';
COMMENT ON COLUMN hoverboard.deployments.version_id IS 'What answers from now on; null where nothing does.';
COMMENT ON COLUMN hoverboard.deployments.share IS 'Of the traffic, 0 to 1.';
COMMENT ON COLUMN hoverboard.deployments.reason IS 'One sentence.';
COMMENT ON COLUMN hoverboard.deployments.actor IS '`admin`, or `disk` for a new version, an edited serving.toml or a start.';
COMMENT ON COLUMN hoverboard.deployments.process IS 'The engine that changed, such as `engine-0`.';
CREATE TABLE hoverboard.drift_state (
    version_id integer NOT NULL,
    number bigint NOT NULL,
    rows integer NOT NULL,
    weight double precision NOT NULL,
    weight_squared double precision NOT NULL,
    first_at timestamp with time zone,
    last_at timestamp with time zone,
    counts bytea NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
COMMENT ON TABLE hoverboard.drift_state IS 'The window that each version is filling; the recorder''s own.';
COMMENT ON COLUMN hoverboard.drift_state.version_id IS 'model_versions.id';
COMMENT ON COLUMN hoverboard.drift_state.number IS 'drift_windows.number once it is full.';
COMMENT ON COLUMN hoverboard.drift_state.rows IS 'Recorded samples so far.';
COMMENT ON COLUMN hoverboard.drift_state.weight IS 'The sum of 1 / incl_prob over them.';
COMMENT ON COLUMN hoverboard.drift_state.weight_squared IS 'The sum of its squares.';
COMMENT ON COLUMN hoverboard.drift_state.first_at IS 'Time of the first of their batches; null before it.';
COMMENT ON COLUMN hoverboard.drift_state.last_at IS 'Time of the last of their batches; null before it.';
COMMENT ON COLUMN hoverboard.drift_state.counts IS 'Weights in the bins of all features in order: float64, little-endian, zlib.';
COMMENT ON COLUMN hoverboard.drift_state.updated_at IS 'When the recorder last counted.';
CREATE TABLE hoverboard.drift_windows (
    version_id integer NOT NULL,
    number bigint NOT NULL,
    feature text NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone NOT NULL,
    rows integer NOT NULL,
    n double precision NOT NULL,
    p_value double precision NOT NULL,
    q_value double precision NOT NULL,
    js double precision NOT NULL,
    drifted boolean NOT NULL,
    counts jsonb NOT NULL
);
COMMENT ON TABLE hoverboard.drift_windows IS 'Windows of a version''s traffic beside its baseline: one row a feature. Kept as long as samples are.';
COMMENT ON COLUMN hoverboard.drift_windows.version_id IS 'model_versions.id';
COMMENT ON COLUMN hoverboard.drift_windows.number IS 'Counts the windows of a version from 1.';
COMMENT ON COLUMN hoverboard.drift_windows.feature IS 'baselines.feature';
COMMENT ON COLUMN hoverboard.drift_windows.first_at IS 'Time of the first batch in it.';
COMMENT ON COLUMN hoverboard.drift_windows.last_at IS 'Time of the last batch in it.';
COMMENT ON COLUMN hoverboard.drift_windows.closed_at IS 'When it was full and judged.';
COMMENT ON COLUMN hoverboard.drift_windows.rows IS 'Recorded samples in it.';
COMMENT ON COLUMN hoverboard.drift_windows.n IS 'Samples that this feature could be read of; under the policy `sampled`, how many unweighted ones they are worth.';
COMMENT ON COLUMN hoverboard.drift_windows.p_value IS 'Of the G-test against the baseline''s counts.';
COMMENT ON COLUMN hoverboard.drift_windows.q_value IS 'The same, adjusted for all features of the window (Benjamini-Hochberg).';
COMMENT ON COLUMN hoverboard.drift_windows.js IS 'Jensen-Shannon divergence from the baseline in bits, 0 to 1: the size of the change.';
COMMENT ON COLUMN hoverboard.drift_windows.drifted IS 'Whether q_value is at most 0.05 and js at least 0.05.';
COMMENT ON COLUMN hoverboard.drift_windows.counts IS 'How many samples were in each of baselines.bins; weighted by 1 / incl_prob.';
CREATE TABLE hoverboard.erasures (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    kind text NOT NULL,
    sample_id uuid,
    tag_key text,
    tag_digest text,
    model text,
    before timestamp with time zone,
    actor text NOT NULL,
    reason text,
    rows_erased bigint NOT NULL,
    CONSTRAINT erasures_check CHECK (
CASE kind
    WHEN 'sample'::text THEN (sample_id IS NOT NULL)
    WHEN 'tag'::text THEN ((tag_key IS NOT NULL) AND (tag_digest IS NOT NULL))
    ELSE (before IS NOT NULL)
END),
    CONSTRAINT erasures_kind_check CHECK ((kind = ANY (ARRAY['sample'::text, 'tag'::text, 'age'::text])))
);
COMMENT ON TABLE hoverboard.erasures IS 'What was erased, as tombstones: applied to what is drained later too, so that no journal brings it back.';
COMMENT ON COLUMN hoverboard.erasures.id IS 'In the order they were asked for.';
COMMENT ON COLUMN hoverboard.erasures.at IS 'When; samples that arrive later are not meant.';
COMMENT ON COLUMN hoverboard.erasures.kind IS '`sample` (one id), `tag` (a subject) or `age` (all before a time).';
COMMENT ON COLUMN hoverboard.erasures.sample_id IS 'The sample, for `sample`.';
COMMENT ON COLUMN hoverboard.erasures.tag_key IS 'The tag''s name, for `tag`.';
COMMENT ON COLUMN hoverboard.erasures.tag_digest IS 'SHA-256 of the tag''s value in hex, for `tag`: a tombstone must not name the subject.';
COMMENT ON COLUMN hoverboard.erasures.model IS 'Only of this model; null for all.';
COMMENT ON COLUMN hoverboard.erasures.before IS 'All before this time, for `age`.';
COMMENT ON COLUMN hoverboard.erasures.actor IS 'Who erased.';
COMMENT ON COLUMN hoverboard.erasures.reason IS 'Why, as the actor put it.';
COMMENT ON COLUMN hoverboard.erasures.rows_erased IS 'Rows deleted or never inserted so far, over all tables.';
ALTER TABLE hoverboard.erasures ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.erasures_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE hoverboard.gaps (
    at timestamp with time zone NOT NULL,
    journal uuid NOT NULL,
    process text NOT NULL,
    model text,
    version bigint,
    reason text NOT NULL,
    frames bigint,
    records bigint,
    executed bigint,
    flagged bigint,
    first_at timestamp with time zone,
    last_at timestamp with time zone,
    segment bigint,
    "position" bigint,
    detail text
);
COMMENT ON TABLE hoverboard.gaps IS 'What is missing, counted: records that were shed, damaged, expired or refused by Postgres.';
COMMENT ON COLUMN hoverboard.gaps.at IS 'When the recorder wrote this row.';
COMMENT ON COLUMN hoverboard.gaps.journal IS 'The journal they are missing from.';
COMMENT ON COLUMN hoverboard.gaps.process IS 'The process that wrote that journal, such as `engine-0`.';
COMMENT ON COLUMN hoverboard.gaps.model IS 'Model they belong to; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.version IS 'Version they belong to; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.reason IS 'Shed: `journal budget` (Postgres was away for too long), `journal cannot be written` (the disk was full or broken), `redact` (serving.toml hides something that the model does not have). Lost: `damaged` (the disk changed what was written), `missing` (files are gone), `removed by hand`, `torn` (the last write of a process that was killed, which nobody was answered). Not taken: `quarantined` (Postgres refused it; see the table quarantine), `expired` (it came after retention_days). `duplicate` has lost nothing. `hoverboard gaps` says what to do.';
COMMENT ON COLUMN hoverboard.gaps.frames IS 'Frames lost; null where unknown or where none was written.';
COMMENT ON COLUMN hoverboard.gaps.records IS 'Records missing: kept samples, labels or rejections; null where nobody can say.';
COMMENT ON COLUMN hoverboard.gaps.executed IS 'Samples that ran in batches of which nothing was written; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.flagged IS 'Outliers among them; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.first_at IS 'Time of the first of them; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.last_at IS 'Time of the last of them; null where unknown.';
COMMENT ON COLUMN hoverboard.gaps.segment IS 'Segment of the journal where the hole is.';
COMMENT ON COLUMN hoverboard.gaps."position" IS 'Byte in that segment where the hole begins.';
COMMENT ON COLUMN hoverboard.gaps.detail IS 'One sentence more.';
CREATE TABLE hoverboard.issue_events (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    issue_id bigint NOT NULL,
    kind text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE hoverboard.issue_events IS 'Every change of an issue''s state, and notes.';
COMMENT ON COLUMN hoverboard.issue_events.id IS 'In the order they were recorded.';
COMMENT ON COLUMN hoverboard.issue_events.at IS 'When, by the clock of the database.';
COMMENT ON COLUMN hoverboard.issue_events.issue_id IS 'issues.id';
COMMENT ON COLUMN hoverboard.issue_events.kind IS '`escalating`, `regressed`, `ongoing`, `resolved`, `archived`, `ignored`, `merged`, `unmerged`, `reopened` or `note`.';
COMMENT ON COLUMN hoverboard.issue_events.actor IS 'The user who changed it; where nobody did, `recorder`, or `hoverboard` for what was merged or found again by itself.';
COMMENT ON COLUMN hoverboard.issue_events.reason IS 'Why, or the note.';
CREATE TABLE hoverboard.issue_scopes (
    id integer NOT NULL,
    model text NOT NULL,
    backbone_sha256 text NOT NULL,
    whitened boolean,
    radius double precision,
    radius_from text,
    rows bigint DEFAULT 0 NOT NULL,
    ungrouped bigint DEFAULT 0 NOT NULL,
    revision bigint DEFAULT 0 NOT NULL,
    carried_at timestamp with time zone
);
COMMENT ON TABLE hoverboard.issue_scopes IS 'Where outliers can be compared: one row for each model and the weights that its features come from.';
COMMENT ON COLUMN hoverboard.issue_scopes.id IS 'Locked, with all of the model, by whoever changes an issue of the model.';
COMMENT ON COLUMN hoverboard.issue_scopes.model IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.issue_scopes.backbone_sha256 IS 'Of the weights that the features come from: of the whole version, where nothing is said of its parts.';
COMMENT ON COLUMN hoverboard.issue_scopes.whitened IS 'Whether distances are taken under the covariance of the version''s detector; null before the radius is known.';
COMMENT ON COLUMN hoverboard.issue_scopes.radius IS 'An outlier joins its nearest leader up to this distance; null before it is known.';
COMMENT ON COLUMN hoverboard.issue_scopes.radius_from IS 'What the radius was taken from, in words; null before.';
COMMENT ON COLUMN hoverboard.issue_scopes.rows IS 'Samples that ran since the first outlier came; those that repeat a recent one are left out.';
COMMENT ON COLUMN hoverboard.issue_scopes.ungrouped IS 'Outliers with features that joined no issue: the log and the metrics say why.';
COMMENT ON COLUMN hoverboard.issue_scopes.revision IS 'Changes whenever a leader comes or goes.';
COMMENT ON COLUMN hoverboard.issue_scopes.carried_at IS 'When the issues of the model''s other weights were last looked for under these; null before.';
CREATE TABLE hoverboard.issues (
    id bigint NOT NULL,
    scope_id integer NOT NULL,
    state text NOT NULL,
    substate text NOT NULL,
    state_at timestamp with time zone NOT NULL,
    why text NOT NULL,
    members bigint NOT NULL,
    first_seen timestamp with time zone NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    first_version bigint NOT NULL,
    last_version bigint NOT NULL,
    resolved_in bigint,
    resolved_at timestamp with time zone,
    merged_into bigint,
    rate_day date,
    rate_bound double precision,
    rate_rows bigint DEFAULT 0 NOT NULL,
    rate_members bigint DEFAULT 0 NOT NULL,
    rows_seen bigint DEFAULT 0 NOT NULL,
    log_sums double precision[],
    evidence_rows bigint DEFAULT 0 NOT NULL,
    evidence_members bigint DEFAULT 0 NOT NULL,
    CONSTRAINT issues_check CHECK (
CASE state
    WHEN 'unresolved'::text THEN (substate = ANY (ARRAY['new'::text, 'ongoing'::text, 'escalating'::text, 'regressed'::text]))
    WHEN 'archived'::text THEN (substate = ANY (ARRAY['until_escalating'::text, 'forever'::text]))
    ELSE (substate = ''::text)
END),
    CONSTRAINT issues_check1 CHECK (((state = 'resolved'::text) <= ((resolved_in IS NOT NULL) AND (resolved_at IS NOT NULL)))),
    CONSTRAINT issues_check2 CHECK (((state = 'merged'::text) = (merged_into IS NOT NULL))),
    CONSTRAINT issues_state_check CHECK ((state = ANY (ARRAY['unresolved'::text, 'archived'::text, 'resolved'::text, 'ignored'::text, 'merged'::text])))
);
COMMENT ON TABLE hoverboard.issues IS 'Outliers that are alike. `hoverboard issues` lists those with at least 5 members.';
COMMENT ON COLUMN hoverboard.issues.id IS 'Number; that of the fingerprint that it began with.';
COMMENT ON COLUMN hoverboard.issues.scope_id IS 'issue_scopes.id, of the weights that found it first; its fingerprints may be of others of the same model, too.';
COMMENT ON COLUMN hoverboard.issues.state IS '`unresolved`, `archived`, `resolved`, `ignored`, or `merged` into another one.';
COMMENT ON COLUMN hoverboard.issues.substate IS 'Of an unresolved one `new`, `ongoing`, `escalating` or `regressed`; of an archived one `until_escalating` or `forever`; else empty.';
COMMENT ON COLUMN hoverboard.issues.state_at IS 'Since when, by the clock of the database.';
COMMENT ON COLUMN hoverboard.issues.why IS 'Why it is so, in words.';
COMMENT ON COLUMN hoverboard.issues.members IS 'Outliers that joined it, also those that were erased or have expired since.';
COMMENT ON COLUMN hoverboard.issues.first_seen IS 'Time of its earliest sample.';
COMMENT ON COLUMN hoverboard.issues.last_seen IS 'Time of its latest sample.';
COMMENT ON COLUMN hoverboard.issues.first_version IS 'The lowest version that found one of them.';
COMMENT ON COLUMN hoverboard.issues.last_version IS 'The highest version that found one of them.';
COMMENT ON COLUMN hoverboard.issues.resolved_in IS 'The version that is right again: lower ones may still find it. Null where it was never resolved.';
COMMENT ON COLUMN hoverboard.issues.resolved_at IS 'When that was said: earlier samples may still come. Null where it was never resolved.';
COMMENT ON COLUMN hoverboard.issues.merged_into IS 'issues.id, of a merged one; else null.';
COMMENT ON COLUMN hoverboard.issues.rate_day IS 'The day (UTC) for which its own rate was taken; null before.';
COMMENT ON COLUMN hoverboard.issues.rate_bound IS '95% upper bound of its own rate on up to 7 days before that day; null without such days.';
COMMENT ON COLUMN hoverboard.issues.rate_rows IS 'Samples that ran on those days.';
COMMENT ON COLUMN hoverboard.issues.rate_members IS 'Members on those days.';
COMMENT ON COLUMN hoverboard.issues.rows_seen IS 'issue_scopes.rows up to which its evidence counts.';
COMMENT ON COLUMN hoverboard.issues.log_sums IS 'Evidence of a higher rate on rate_day, as in alarms.';
COMMENT ON COLUMN hoverboard.issues.evidence_rows IS 'Samples that the evidence counts.';
COMMENT ON COLUMN hoverboard.issues.evidence_members IS 'Members among them.';
CREATE TABLE hoverboard.process_events (
    at timestamp with time zone NOT NULL,
    process text NOT NULL,
    kind text NOT NULL,
    detail text,
    CONSTRAINT process_events_kind_check CHECK ((kind = ANY (ARRAY['start'::text, 'stop'::text, 'death'::text])))
);
COMMENT ON TABLE hoverboard.process_events IS 'Starts and ends of the service''s processes, as the supervisor saw them. A start of `supervisor` without a stop before it: the supervisor was killed, or its machine went down, and all the others with it.';
COMMENT ON COLUMN hoverboard.process_events.at IS 'When, by the clock of the machine that serves.';
COMMENT ON COLUMN hoverboard.process_events.process IS 'Such as `engine-0`, or `supervisor` for the service as a whole.';
COMMENT ON COLUMN hoverboard.process_events.kind IS '`start`, `stop` (it was asked to) or `death` (it was not).';
COMMENT ON COLUMN hoverboard.process_events.detail IS 'How it ended, in words, such as `killed by SIGKILL`; null for nothing to add.';
CREATE VIEW hoverboard.events AS
 SELECT d.at,
    d.model,
    v.version,
    'deployment'::text AS kind,
    d.role AS subject,
    (((((((
        CASE
            WHEN (d.version_id IS NULL) THEN 'nothing answers'::text
            ELSE (('version '::text || v.version) || ' answers'::text)
        END || ' on '::text) || d.process) || ': '::text) || d.reason) || ' ('::text) || d.actor) || ')'::text) AS detail
   FROM (hoverboard.deployments d
     LEFT JOIN hoverboard.model_versions v ON ((v.id = d.version_id)))
UNION ALL
 SELECT a.at,
    v.name AS model,
    v.version,
        CASE a.kind
            WHEN 'raised'::text THEN 'alarm'::text
            ELSE 'alarm_reset'::text
        END AS kind,
    'outliers'::text AS subject,
        CASE a.kind
            WHEN 'raised'::text THEN
            CASE
                WHEN (a.onset_rows IS NULL) THEN (((a.flagged || ' outliers among '::text) || a.rows) || ' samples'::text)
                ELSE ((((a.onset_flagged || ' outliers among '::text) || a.onset_rows) || ' samples since '::text) || a.onset_at)
            END
            ELSE (('reset by '::text || COALESCE(a.actor, 'somebody'::text)) || COALESCE((': '::text || a.reason), ''::text))
        END AS detail
   FROM (hoverboard.alarm_events a
     JOIN hoverboard.model_versions v ON ((v.id = a.version_id)))
UNION ALL
 SELECT COALESCE(g.first_at, g.at) AS at,
    g.model,
    g.version,
    'gap'::text AS kind,
    g.process AS subject,
    ((((g.reason || ': '::text) || COALESCE((g.records)::text, 'an unknown number of'::text)) || ' records'::text) || COALESCE((' until '::text || g.last_at), ''::text)) AS detail
   FROM hoverboard.gaps g
  WHERE (g.reason <> 'duplicate'::text)
UNION ALL
 SELECT e.at,
    NULL::text AS model,
    NULL::bigint AS version,
    e.kind,
    e.process AS subject,
    e.detail
   FROM hoverboard.process_events e
UNION ALL
 SELECT i.first_seen AS at,
    s.model,
    i.first_version AS version,
    'issue_new'::text AS kind,
    ('issue '::text || i.id) AS subject,
    (('version '::text || i.first_version) || ' found the first of its kind'::text) AS detail
   FROM (hoverboard.issues i
     JOIN hoverboard.issue_scopes s ON ((s.id = i.scope_id)))
  WHERE ((i.members >= 5) AND (i.state <> 'merged'::text))
UNION ALL
 SELECT e.at,
    s.model,
    NULL::bigint AS version,
    ('issue_'::text || e.kind) AS kind,
    ('issue '::text || e.issue_id) AS subject,
    (((e.reason || ' ('::text) || e.actor) || ')'::text) AS detail
   FROM ((hoverboard.issue_events e
     JOIN hoverboard.issues i ON ((i.id = e.issue_id)))
     JOIN hoverboard.issue_scopes s ON ((s.id = i.scope_id)))
  WHERE (e.kind <> 'note'::text);
COMMENT ON VIEW hoverboard.events IS 'What happened, on one time axis: deployments, alarms, gaps, issues, and starts and ends of processes. Give `at` a range.';
COMMENT ON COLUMN hoverboard.events.at IS 'When; of a gap the time of its first record, or when it was found where nobody knows.';
COMMENT ON COLUMN hoverboard.events.model IS 'Name of the model; null where all are meant.';
COMMENT ON COLUMN hoverboard.events.version IS 'Number of the version; null where none or all are meant.';
COMMENT ON COLUMN hoverboard.events.kind IS '`deployment`, `alarm`, `alarm_reset`, `gap`, `start`, `stop` or `death`; of an issue `issue_new`, when its first sample came, or `issue_` and what became of it, as in issue_events.kind.';
COMMENT ON COLUMN hoverboard.events.subject IS 'What it happened to: the role of a deployment, `outliers` for an alarm, an issue by its number, else the process, such as `engine-0`.';
COMMENT ON COLUMN hoverboard.events.detail IS 'The rest, in words.';
CREATE TABLE hoverboard.features (
    at timestamp with time zone NOT NULL,
    sample_id uuid NOT NULL,
    version_id integer NOT NULL,
    z bytea NOT NULL
)
PARTITION BY RANGE (at);
ALTER TABLE ONLY hoverboard.features ALTER COLUMN z SET STORAGE EXTERNAL;
COMMENT ON TABLE hoverboard.features IS 'What a version''s detectors see of a sample: of every recorded outlier, and of those samples whose id ends in a byte below 13 (5%): get_byte(uuid_send(sample_id), 15) < 13. Nothing of a model whose inputs are redacted, hashed or not recorded, since z tells about them. May lack rows where the engine was busy or the journal''s disk budget short.';
COMMENT ON COLUMN hoverboard.features.at IS 'The sample''s time.';
COMMENT ON COLUMN hoverboard.features.sample_id IS 'samples.id';
COMMENT ON COLUMN hoverboard.features.version_id IS 'model_versions.id: the version whose features they are; others have other features.';
COMMENT ON COLUMN hoverboard.features.z IS 'The features as float16, little-endian, two bytes each: what is beyond +-65504 is that. manifest -> ''outliers'' says what they are: of a layer, the outputs or the inputs.';
CREATE TABLE hoverboard.features_default (
    at timestamp with time zone CONSTRAINT features_at_not_null NOT NULL,
    sample_id uuid CONSTRAINT features_sample_id_not_null NOT NULL,
    version_id integer CONSTRAINT features_version_id_not_null NOT NULL,
    z bytea CONSTRAINT features_z_not_null NOT NULL
);
ALTER TABLE ONLY hoverboard.features_default ALTER COLUMN z SET STORAGE EXTERNAL;
COMMENT ON TABLE hoverboard.features_default IS 'Features whose clock was implausible, or whose day had no partition yet.';
CREATE TABLE hoverboard.issue_days (
    fingerprint bigint NOT NULL,
    day date NOT NULL,
    members bigint NOT NULL
);
COMMENT ON TABLE hoverboard.issue_days IS 'Members of each fingerprint by day (UTC) of the samples. Kept as long as samples are.';
COMMENT ON COLUMN hoverboard.issue_days.fingerprint IS 'issue_fingerprints.id';
COMMENT ON COLUMN hoverboard.issue_days.day IS 'Of the samples.';
COMMENT ON COLUMN hoverboard.issue_days.members IS 'How many joined.';
ALTER TABLE hoverboard.issue_events ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.issue_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE hoverboard.issue_fingerprints (
    id bigint NOT NULL,
    scope_id integer NOT NULL,
    issue_id bigint NOT NULL,
    sample_id uuid,
    version_id integer,
    z bytea,
    members bigint NOT NULL,
    distances double precision NOT NULL,
    last_seen timestamp with time zone NOT NULL,
    carried_from bigint
);
COMMENT ON TABLE hoverboard.issue_fingerprints IS 'Leaders, and the issue that each belongs to: what joins a leader is of that issue, also after a merge.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.id IS 'The issue of this number began with it.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.scope_id IS 'issue_scopes.id';
COMMENT ON COLUMN hoverboard.issue_fingerprints.issue_id IS 'issues.id: its own, or the one that this was merged into.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.sample_id IS 'The leader''s sample. Once that is erased or has expired, the oldest member on record; null without any: then nothing joins.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.version_id IS 'model_versions.id: whose features; null without a leader.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.z IS 'features.z of that sample; null without a leader.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.members IS 'Outliers that joined it, the leader among them.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.distances IS 'Sum of their distances to the leader.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.last_seen IS 'Time of the latest of their samples.';
COMMENT ON COLUMN hoverboard.issue_fingerprints.carried_from IS 'issue_fingerprints.id: the one of other weights whose sample this is, as this version sees it; null for what was found here.';
CREATE TABLE hoverboard.issue_links (
    one bigint NOT NULL,
    other bigint NOT NULL,
    rows bigint NOT NULL,
    CONSTRAINT issue_links_check CHECK ((one < other))
);
COMMENT ON TABLE hoverboard.issue_links IS 'Fingerprints of different issues that outliers lie between: enough of them, and the recorder merges the two.';
COMMENT ON COLUMN hoverboard.issue_links.one IS 'issue_fingerprints.id, the lower one.';
COMMENT ON COLUMN hoverboard.issue_links.other IS 'issue_fingerprints.id, the higher one.';
COMMENT ON COLUMN hoverboard.issue_links.rows IS 'Outliers within the radius of both, that came while the smaller of the two had fewer than 50 members.';
CREATE TABLE hoverboard.issue_never (
    one bigint NOT NULL,
    other bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    CONSTRAINT issue_never_check CHECK ((one < other))
);
COMMENT ON TABLE hoverboard.issue_never IS 'Fingerprints that somebody took apart: they are merged again only by who says so twice.';
COMMENT ON COLUMN hoverboard.issue_never.one IS 'issue_fingerprints.id, the lower one.';
COMMENT ON COLUMN hoverboard.issue_never.other IS 'issue_fingerprints.id, the higher one.';
COMMENT ON COLUMN hoverboard.issue_never.at IS 'When.';
COMMENT ON COLUMN hoverboard.issue_never.actor IS 'Who.';
CREATE SEQUENCE hoverboard.issue_numbers
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
CREATE TABLE hoverboard.issue_scope_days (
    scope_id integer NOT NULL,
    day date NOT NULL,
    rows bigint NOT NULL
);
COMMENT ON TABLE hoverboard.issue_scope_days IS 'Samples that ran by day (UTC), for rates. Kept as long as samples are.';
COMMENT ON COLUMN hoverboard.issue_scope_days.scope_id IS 'issue_scopes.id';
COMMENT ON COLUMN hoverboard.issue_scope_days.day IS 'Of the batches.';
COMMENT ON COLUMN hoverboard.issue_scope_days.rows IS 'Samples that ran; those that repeat a recent one are left out.';
ALTER TABLE hoverboard.issue_scopes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.issue_scopes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE VIEW hoverboard.label_problems AS
 SELECT l.sample_id,
    l.labelled_at,
    l.label,
    l.value,
    l.source,
    v.name AS model,
    v.version,
        CASE
            WHEN (l.value IS NOT NULL) THEN 'a value, and the version answers classes'::text
            WHEN ((v.manifest ->> 'task'::text) = 'regression'::text) THEN 'a label, and the version answers numbers'::text
            WHEN (l.labels IS NULL) THEN 'none of the version''s classes'::text
            WHEN ((v.manifest ->> 'task'::text) = 'classification'::text) THEN 'a list of labels, and the version answers one class'::text
            ELSE 'a label that is none of the version''s'::text
        END AS problem,
    l.labels
   FROM ((hoverboard.labels l
     JOIN hoverboard.predictions p ON (((p.sample_id = l.sample_id) AND (p.at = hoverboard.sample_at(l.sample_id)))))
     JOIN hoverboard.model_versions v ON ((v.id = p.version_id)))
  WHERE
        CASE (v.manifest ->> 'task'::text)
            WHEN 'regression'::text THEN (l.value IS NULL)
            WHEN 'classification'::text THEN ((l.label IS NULL) OR ((jsonb_typeof((v.manifest -> 'labels'::text)) = 'array'::text) AND (NOT ((v.manifest -> 'labels'::text) ? l.label))))
            WHEN 'multi-label'::text THEN ((l.value IS NOT NULL) OR ((jsonb_typeof((v.manifest -> 'labels'::text)) = 'array'::text) AND (NOT ((v.manifest -> 'labels'::text) ?& COALESCE(l.labels, ARRAY[l.label])))))
            ELSE false
        END;
COMMENT ON VIEW hoverboard.label_problems IS 'Labels that cannot be true of their sample, by the version that answered it. They are in labels all the same.';
COMMENT ON COLUMN hoverboard.label_problems.sample_id IS 'labels.sample_id';
COMMENT ON COLUMN hoverboard.label_problems.labelled_at IS 'labels.labelled_at';
COMMENT ON COLUMN hoverboard.label_problems.label IS 'labels.label';
COMMENT ON COLUMN hoverboard.label_problems.value IS 'labels.value';
COMMENT ON COLUMN hoverboard.label_problems.source IS 'labels.source';
COMMENT ON COLUMN hoverboard.label_problems.model IS 'Name of the model that answered the sample.';
COMMENT ON COLUMN hoverboard.label_problems.version IS 'Number of the version that answered it.';
COMMENT ON COLUMN hoverboard.label_problems.problem IS 'Why it cannot be.';
COMMENT ON COLUMN hoverboard.label_problems.labels IS 'labels.labels';
ALTER TABLE hoverboard.model_versions ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.model_versions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE hoverboard.outliers_default (
    at timestamp with time zone CONSTRAINT outliers_at_not_null NOT NULL,
    sample_id uuid CONSTRAINT outliers_sample_id_not_null NOT NULL,
    version_id integer CONSTRAINT outliers_version_id_not_null NOT NULL,
    detector text,
    scores jsonb,
    p_value real CONSTRAINT outliers_p_value_not_null NOT NULL,
    issue_id bigint,
    fingerprint bigint
);
COMMENT ON TABLE hoverboard.outliers_default IS 'Outliers whose clock was implausible, or whose day had no partition yet.';
CREATE TABLE hoverboard.predictions_default (
    at timestamp with time zone CONSTRAINT predictions_at_not_null NOT NULL,
    sample_id uuid CONSTRAINT predictions_sample_id_not_null NOT NULL,
    version_id integer CONSTRAINT predictions_version_id_not_null NOT NULL,
    role text,
    predicted_at timestamp with time zone CONSTRAINT predictions_predicted_at_not_null NOT NULL,
    label text,
    confidence real,
    value double precision,
    outputs real[],
    output_tensors bytea,
    p_value real,
    batch_id uuid CONSTRAINT predictions_batch_id_not_null NOT NULL,
    batch_size integer CONSTRAINT predictions_batch_size_not_null NOT NULL,
    bucket integer CONSTRAINT predictions_bucket_not_null NOT NULL,
    queue_us integer CONSTRAINT predictions_queue_us_not_null NOT NULL,
    infer_us integer CONSTRAINT predictions_infer_us_not_null NOT NULL,
    labels text[],
    confidences real[],
    process text
);
COMMENT ON TABLE hoverboard.predictions_default IS 'Predictions whose clock was implausible, or whose day had no partition yet.';
CREATE VIEW hoverboard.quality AS
 SELECT d.day,
    v.name AS model,
    v.version,
    q.rows,
    q.labelled,
    q.accuracy,
        CASE
            WHEN (q.accuracy IS NOT NULL) THEN GREATEST((q.accuracy - sqrt((q.spread + q.below))), (0)::double precision)
            ELSE NULL::double precision
        END AS accuracy_low,
        CASE
            WHEN (q.accuracy IS NOT NULL) THEN LEAST((q.accuracy + sqrt((q.spread + q.above))), (1)::double precision)
            ELSE NULL::double precision
        END AS accuracy_high,
    q.mean_confidence,
    q.absolute_error,
    q.root_mean_squared_error,
    v.id AS version_id
   FROM ((( SELECT (generate_series(date_trunc('day'::text, (min(model_versions.first_served_at) AT TIME ZONE 'UTC'::text)), (now() AT TIME ZONE 'UTC'::text), '1 day'::interval))::date AS day
           FROM hoverboard.model_versions) d
     CROSS JOIN LATERAL ( WITH answered AS MATERIALIZED (
                 SELECT p.version_id,
                    hoverboard.sample_kind(s.why, p.p_value, m.manifest) AS kind,
                    count(*) AS rows,
                    sum(weighed.w) AS weight,
                    sum((weighed.w ^ (2)::double precision)) AS squared,
                    sum((weighed.w * p.confidence)) AS confidence
                   FROM (((hoverboard.predictions p
                     JOIN hoverboard.samples s ON (((s.id = p.sample_id) AND (s.at = p.at))))
                     JOIN hoverboard.model_versions m ON ((m.id = p.version_id)))
                     CROSS JOIN LATERAL ( SELECT ((1)::double precision / (s.incl_prob)::double precision) AS w) weighed)
                  WHERE ((p.at >= ((d.day)::timestamp without time zone AT TIME ZONE 'UTC'::text)) AND (p.at < (((d.day + 1))::timestamp without time zone AT TIME ZONE 'UTC'::text)) AND (s.at >= ((d.day)::timestamp without time zone AT TIME ZONE 'UTC'::text)) AND (s.at < (((d.day + 1))::timestamp without time zone AT TIME ZONE 'UTC'::text)))
                  GROUP BY p.version_id, (hoverboard.sample_kind(s.why, p.p_value, m.manifest))
                ), labelled AS MATERIALIZED (
                 SELECT judged.version_id,
                    judged.kind,
                    count(*) AS n,
                    ((sum(weighed.w) ^ (2)::double precision) / sum((weighed.w ^ (2)::double precision))) AS effective,
                    (sum((weighed.w * ((judged.correct)::integer)::double precision)) / sum(weighed.w)) AS p,
                    (sum((weighed.w * abs(judged.error))) / sum(weighed.w)) AS absolute,
                    (sum((weighed.w * (judged.error ^ (2)::double precision))) / sum(weighed.w)) AS squared_error
                   FROM (hoverboard.judged(NULL::text, ((d.day)::timestamp without time zone AT TIME ZONE 'UTC'::text), (((d.day + 1))::timestamp without time zone AT TIME ZONE 'UTC'::text)) judged(at, sample_id, version_id, role, kind, incl_prob, label, labels, confidence, confidences, value, true_label, true_labels, true_value, source, labelled_at, first_labelled_at, correct, error)
                     CROSS JOIN LATERAL ( SELECT ((1)::double precision / (judged.incl_prob)::double precision) AS w) weighed)
                  WHERE ((judged.correct IS NOT NULL) OR (judged.error IS NOT NULL))
                  GROUP BY judged.version_id, judged.kind
                ), kinds AS (
                 SELECT a.version_id,
                    a.kind,
                    a.rows,
                    a.weight,
                    a.squared,
                    a.confidence,
                    l.n,
                    l.p,
                    l.effective,
                    l.absolute,
                    l.squared_error,
                    (a.weight / NULLIF(sum(a.weight) FILTER (WHERE (l.n > 0)) OVER of_version, (0)::double precision)) AS share,
                    (sum((a.weight * l.p)) OVER of_version / NULLIF(sum(a.weight) FILTER (WHERE (l.n > 0)) OVER of_version, (0)::double precision)) AS mean,
                    ((l.p + ((1.9207)::double precision / l.effective)) / ((1)::double precision + ((3.8415)::double precision / l.effective))) AS centre,
                    (sqrt((((((3.8415)::double precision * l.p) * ((1)::double precision - l.p)) / l.effective) + ((3.6891)::double precision / (l.effective ^ (2)::double precision)))) / ((1)::double precision + ((3.8415)::double precision / l.effective))) AS half
                   FROM (answered a
                     LEFT JOIN labelled l USING (version_id, kind))
                  WINDOW of_version AS (PARTITION BY a.version_id)
                )
         SELECT kinds.version_id,
            (sum(kinds.rows))::bigint AS rows,
            (COALESCE(sum(kinds.n), (0)::numeric))::bigint AS labelled,
            sum((kinds.share * kinds.p)) AS accuracy,
            (sum((kinds.squared * ((kinds.p - kinds.mean) ^ (2)::double precision))) / (sum(kinds.weight) FILTER (WHERE (kinds.n > 0)) ^ (2)::double precision)) AS spread,
            sum(((kinds.share * (kinds.p - GREATEST((kinds.centre - kinds.half), (0)::double precision))) ^ (2)::double precision)) AS below,
            sum(((kinds.share * (LEAST((kinds.centre + kinds.half), (1)::double precision) - kinds.p)) ^ (2)::double precision)) AS above,
            (sum(kinds.confidence) / sum(kinds.weight)) AS mean_confidence,
            sum((kinds.share * kinds.absolute)) AS absolute_error,
            sqrt(sum((kinds.share * kinds.squared_error))) AS root_mean_squared_error
           FROM kinds
          GROUP BY kinds.version_id) q)
     JOIN hoverboard.model_versions v ON ((v.id = q.version_id)));
COMMENT ON VIEW hoverboard.quality IS 'How good answers were by the labels that have come: a line a version and day (UTC) of the samples. Give `day` a range: each day is read whole. Each kind of sample (sample_kind) weighs what it was of all answers, since people label what looks wrong.';
COMMENT ON COLUMN hoverboard.quality.day IS 'Of the samples, not of the labels.';
COMMENT ON COLUMN hoverboard.quality.model IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.quality.version IS 'Number of the version.';
COMMENT ON COLUMN hoverboard.quality.rows IS 'Its answers on record.';
COMMENT ON COLUMN hoverboard.quality.labelled IS 'Those among them whose label has come and can be compared.';
COMMENT ON COLUMN hoverboard.quality.accuracy IS 'Share of right answers, of a multi-label version those with all labels that hold and no other; null for a regression.';
COMMENT ON COLUMN hoverboard.quality.accuracy_low IS 'Lower end of its 95% interval: Wilson''s of each kind by its effective rows, joined as Zou, Huang and Zhang (2009) do.';
COMMENT ON COLUMN hoverboard.quality.accuracy_high IS 'Upper end of it.';
COMMENT ON COLUMN hoverboard.quality.mean_confidence IS 'What the version itself expects, over all answers, labelled or not; null for a regression or a multi-label version.';
COMMENT ON COLUMN hoverboard.quality.absolute_error IS 'Mean absolute error, for a regression.';
COMMENT ON COLUMN hoverboard.quality.root_mean_squared_error IS 'Root of the mean squared error, for a regression.';
COMMENT ON COLUMN hoverboard.quality.version_id IS 'model_versions.id';
CREATE TABLE hoverboard.quarantine (
    at timestamp with time zone NOT NULL,
    journal uuid NOT NULL,
    segment bigint NOT NULL,
    "position" bigint NOT NULL,
    seq bigint NOT NULL,
    records bigint NOT NULL,
    file text NOT NULL,
    sqlstate text,
    error text NOT NULL
);
COMMENT ON TABLE hoverboard.quarantine IS 'Records that Postgres or the encoding refused: put aside in a file, each with a gap.';
COMMENT ON COLUMN hoverboard.quarantine.at IS 'When.';
COMMENT ON COLUMN hoverboard.quarantine.journal IS 'The journal it is from.';
COMMENT ON COLUMN hoverboard.quarantine.segment IS 'The segment it is from.';
COMMENT ON COLUMN hoverboard.quarantine."position" IS 'Byte in that segment where its frame begins.';
COMMENT ON COLUMN hoverboard.quarantine.seq IS 'Number of its frame in the journal.';
COMMENT ON COLUMN hoverboard.quarantine.records IS 'How many.';
COMMENT ON COLUMN hoverboard.quarantine.file IS 'Where they are, relative to the data directory.';
COMMENT ON COLUMN hoverboard.quarantine.sqlstate IS 'What Postgres said, as a code; null where it never came that far.';
COMMENT ON COLUMN hoverboard.quarantine.error IS 'The same in words, without values.';
CREATE TABLE hoverboard.recorder_cursor (
    journal uuid NOT NULL,
    process text NOT NULL,
    segment bigint NOT NULL,
    "position" bigint NOT NULL,
    seq bigint NOT NULL,
    records bigint NOT NULL,
    gap_generation bigint NOT NULL,
    executed bigint NOT NULL,
    recorded bigint NOT NULL,
    started_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone
);
COMMENT ON TABLE hoverboard.recorder_cursor IS 'How far each journal is in Postgres. It moves in the transaction that inserts the rows: hence exactly once.';
COMMENT ON COLUMN hoverboard.recorder_cursor.journal IS 'Name of the journal''s directory, a UUIDv7.';
COMMENT ON COLUMN hoverboard.recorder_cursor.process IS 'The process that writes it, such as `engine-0`.';
COMMENT ON COLUMN hoverboard.recorder_cursor.segment IS 'The segment to read on in.';
COMMENT ON COLUMN hoverboard.recorder_cursor."position" IS 'The byte in it to read on at.';
COMMENT ON COLUMN hoverboard.recorder_cursor.seq IS 'Frames of the journal before that.';
COMMENT ON COLUMN hoverboard.recorder_cursor.records IS 'Records in those frames.';
COMMENT ON COLUMN hoverboard.recorder_cursor.gap_generation IS 'The last of its counted gaps that is in the table gaps.';
COMMENT ON COLUMN hoverboard.recorder_cursor.executed IS 'Samples that its batches ran, kept or not.';
COMMENT ON COLUMN hoverboard.recorder_cursor.recorded IS 'Samples that were inserted.';
COMMENT ON COLUMN hoverboard.recorder_cursor.started_at IS 'When the recorder first saw it.';
COMMENT ON COLUMN hoverboard.recorder_cursor.updated_at IS 'When the cursor last moved.';
COMMENT ON COLUMN hoverboard.recorder_cursor.finished_at IS 'When all of it was in Postgres and nobody could add to it; null before.';
CREATE TABLE hoverboard.rejections (
    at timestamp with time zone NOT NULL,
    request_id text,
    traceparent text,
    method text,
    model text,
    version text,
    code integer NOT NULL,
    kind text NOT NULL,
    pointer text,
    excerpt text,
    tags jsonb
)
PARTITION BY RANGE (at);
COMMENT ON TABLE hoverboard.rejections IS 'Calls that were refused, shed or timed out, and so have no samples.';
COMMENT ON COLUMN hoverboard.rejections.at IS 'When it was answered.';
COMMENT ON COLUMN hoverboard.rejections.request_id IS 'X-Request-ID of its HTTP request, the caller''s or ours.';
COMMENT ON COLUMN hoverboard.rejections.traceparent IS 'W3C traceparent of its HTTP request.';
COMMENT ON COLUMN hoverboard.rejections.method IS 'JSON-RPC method as the caller wrote it; null where that far was not understood.';
COMMENT ON COLUMN hoverboard.rejections.model IS 'Model as the caller wrote it.';
COMMENT ON COLUMN hoverboard.rejections.version IS 'Version or role as the caller wrote it; where a sample failed in its graph, the number of the version that ran.';
COMMENT ON COLUMN hoverboard.rejections.code IS 'JSON-RPC error code, such as -32602.';
COMMENT ON COLUMN hoverboard.rejections.kind IS 'data.type of the error, such as `invalid_params`.';
COMMENT ON COLUMN hoverboard.rejections.pointer IS 'JSON Pointer of the element at fault, such as /instances/3/17.';
COMMENT ON COLUMN hoverboard.rejections.excerpt IS 'What stood there, shortened, or the graph''s own reason where a sample failed in it; null where the model''s inputs are redacted, hashed or not recorded.';
COMMENT ON COLUMN hoverboard.rejections.tags IS 'What the caller said about the call; null without.';
CREATE TABLE hoverboard.rejections_default (
    at timestamp with time zone CONSTRAINT rejections_at_not_null NOT NULL,
    request_id text,
    traceparent text,
    method text,
    model text,
    version text,
    code integer CONSTRAINT rejections_code_not_null NOT NULL,
    kind text CONSTRAINT rejections_kind_not_null NOT NULL,
    pointer text,
    excerpt text,
    tags jsonb
);
COMMENT ON TABLE hoverboard.rejections_default IS 'Rejections whose clock was implausible, or whose day had no partition yet.';
CREATE TABLE hoverboard.replays (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    model text NOT NULL,
    incumbent bigint NOT NULL,
    incumbent_sha256 text NOT NULL,
    candidate bigint NOT NULL,
    candidate_sha256 text NOT NULL,
    first_at timestamp with time zone NOT NULL,
    last_at timestamp with time zone NOT NULL,
    conditions jsonb NOT NULL,
    rows bigint NOT NULL,
    noise_floor double precision NOT NULL,
    noise_runs integer NOT NULL,
    fixed bigint NOT NULL,
    broken bigint NOT NULL,
    changed bigint NOT NULL,
    noise bigint NOT NULL,
    failed bigint NOT NULL,
    result jsonb NOT NULL
);
COMMENT ON TABLE hoverboard.replays IS 'Versions compared on recorded samples by `hoverboard replay`. Holds no sample and no input. Values of tags and callers that it was about are forgotten once no such sample is on record.';
COMMENT ON COLUMN hoverboard.replays.id IS 'In the order they were kept.';
COMMENT ON COLUMN hoverboard.replays.at IS 'When it was done.';
COMMENT ON COLUMN hoverboard.replays.actor IS 'The user of the machine where it ran.';
COMMENT ON COLUMN hoverboard.replays.model IS 'Name of the model.';
COMMENT ON COLUMN hoverboard.replays.incumbent IS 'Number of the version whose answers were recorded.';
COMMENT ON COLUMN hoverboard.replays.incumbent_sha256 IS 'SHA-256 of its artifact, in hex.';
COMMENT ON COLUMN hoverboard.replays.candidate IS 'Number of the version that was compared with it; it may never have served.';
COMMENT ON COLUMN hoverboard.replays.candidate_sha256 IS 'SHA-256 of its artifact, in hex.';
COMMENT ON COLUMN hoverboard.replays.first_at IS 'From when on samples were replayed.';
COMMENT ON COLUMN hoverboard.replays.last_at IS 'Until when.';
COMMENT ON COLUMN hoverboard.replays.conditions IS 'Which samples: `where`, `unless`, `labelled`, `issue` and what is left out. `(erased or expired)` stands for a tag''s value, or a caller, of which no sample is on record.';
COMMENT ON COLUMN hoverboard.replays.rows IS 'Samples replayed.';
COMMENT ON COLUMN hoverboard.replays.noise_floor IS 'Numbers that are no further apart are the same: the 99.9% quantile of what the incumbent differs from its own record by.';
COMMENT ON COLUMN hoverboard.replays.noise_runs IS 'How often the incumbent was run again.';
COMMENT ON COLUMN hoverboard.replays.fixed IS 'Labelled samples that only the candidate gets right.';
COMMENT ON COLUMN hoverboard.replays.broken IS 'Labelled samples that only the incumbent got right.';
COMMENT ON COLUMN hoverboard.replays.changed IS 'Other samples with another answer.';
COMMENT ON COLUMN hoverboard.replays.noise IS 'Samples in which the incumbent differs from its own record.';
COMMENT ON COLUMN hoverboard.replays.failed IS 'Samples that the candidate has no answer to.';
COMMENT ON COLUMN hoverboard.replays.result IS 'All of it, as `hoverboard replay --json` prints it, without examples.';
ALTER TABLE hoverboard.replays ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME hoverboard.replays_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE hoverboard.samples_default (
    at timestamp with time zone CONSTRAINT samples_at_not_null NOT NULL,
    id uuid CONSTRAINT samples_id_not_null NOT NULL,
    model text CONSTRAINT samples_model_not_null NOT NULL,
    inputs jsonb,
    vector real[],
    tensors bytea,
    tags jsonb,
    request_id text,
    traceparent text,
    incl_prob real CONSTRAINT samples_incl_prob_not_null NOT NULL,
    why text CONSTRAINT samples_why_not_null NOT NULL,
    caller text,
    CONSTRAINT samples_incl_prob_check CHECK (((incl_prob > (0)::double precision) AND (incl_prob <= (1)::double precision)))
);
COMMENT ON TABLE hoverboard.samples_default IS 'Samples whose clock was implausible, or whose day had no partition yet.';
CREATE TABLE hoverboard.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
COMMENT ON TABLE hoverboard.schema_migrations IS 'Which files of migrations/ made this schema.';
COMMENT ON COLUMN hoverboard.schema_migrations.version IS 'The number that the file''s name begins with.';
COMMENT ON COLUMN hoverboard.schema_migrations.name IS 'The file''s name.';
COMMENT ON COLUMN hoverboard.schema_migrations.sha256 IS 'SHA-256 of the file, in hex: a file that was applied never changes.';
COMMENT ON COLUMN hoverboard.schema_migrations.applied_at IS 'When.';
ALTER TABLE ONLY hoverboard.features ATTACH PARTITION hoverboard.features_default DEFAULT;
ALTER TABLE ONLY hoverboard.outliers ATTACH PARTITION hoverboard.outliers_default DEFAULT;
ALTER TABLE ONLY hoverboard.predictions ATTACH PARTITION hoverboard.predictions_default DEFAULT;
ALTER TABLE ONLY hoverboard.rejections ATTACH PARTITION hoverboard.rejections_default DEFAULT;
ALTER TABLE ONLY hoverboard.samples ATTACH PARTITION hoverboard.samples_default DEFAULT;
ALTER TABLE ONLY hoverboard.alarm_events
    ADD CONSTRAINT alarm_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.alarms
    ADD CONSTRAINT alarms_pkey PRIMARY KEY (version_id);
ALTER TABLE ONLY hoverboard.baselines
    ADD CONSTRAINT baselines_pkey PRIMARY KEY (version_id, "position");
ALTER TABLE ONLY hoverboard.baselines
    ADD CONSTRAINT baselines_version_id_feature_key UNIQUE (version_id, feature);
ALTER TABLE ONLY hoverboard.drift_state
    ADD CONSTRAINT drift_state_pkey PRIMARY KEY (version_id);
ALTER TABLE ONLY hoverboard.drift_windows
    ADD CONSTRAINT drift_windows_pkey PRIMARY KEY (version_id, number, feature);
ALTER TABLE ONLY hoverboard.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.issue_days
    ADD CONSTRAINT issue_days_pkey PRIMARY KEY (fingerprint, day);
ALTER TABLE ONLY hoverboard.issue_events
    ADD CONSTRAINT issue_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.issue_fingerprints
    ADD CONSTRAINT issue_fingerprints_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.issue_links
    ADD CONSTRAINT issue_links_pkey PRIMARY KEY (one, other);
ALTER TABLE ONLY hoverboard.issue_never
    ADD CONSTRAINT issue_never_pkey PRIMARY KEY (one, other);
ALTER TABLE ONLY hoverboard.issue_scope_days
    ADD CONSTRAINT issue_scope_days_pkey PRIMARY KEY (scope_id, day);
ALTER TABLE ONLY hoverboard.issue_scopes
    ADD CONSTRAINT issue_scopes_model_backbone_sha256_key UNIQUE (model, backbone_sha256);
ALTER TABLE ONLY hoverboard.issue_scopes
    ADD CONSTRAINT issue_scopes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.issues
    ADD CONSTRAINT issues_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.model_versions
    ADD CONSTRAINT model_versions_name_version_weights_sha256_key UNIQUE (name, version, weights_sha256);
ALTER TABLE ONLY hoverboard.model_versions
    ADD CONSTRAINT model_versions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.recorder_cursor
    ADD CONSTRAINT recorder_cursor_pkey PRIMARY KEY (journal);
ALTER TABLE ONLY hoverboard.replays
    ADD CONSTRAINT replays_pkey PRIMARY KEY (id);
ALTER TABLE ONLY hoverboard.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);
CREATE INDEX alarm_events_version_at ON hoverboard.alarm_events USING btree (version_id, at);
CREATE INDEX deployments_model_at ON hoverboard.deployments USING btree (model, at);
CREATE INDEX drift_windows_closed_at ON hoverboard.drift_windows USING brin (closed_at);
CREATE INDEX erasures_sample_id ON hoverboard.erasures USING btree (sample_id) WHERE (sample_id IS NOT NULL);
CREATE INDEX features_at ON ONLY hoverboard.features USING brin (at);
CREATE INDEX features_default_at_idx ON hoverboard.features_default USING brin (at);
CREATE INDEX features_sample_id ON ONLY hoverboard.features USING btree (sample_id);
CREATE INDEX features_default_sample_id_idx ON hoverboard.features_default USING btree (sample_id);
CREATE INDEX gaps_at ON hoverboard.gaps USING btree (at);
CREATE INDEX gaps_time ON hoverboard.gaps USING btree (COALESCE(first_at, at));
CREATE INDEX issue_events_at ON hoverboard.issue_events USING btree (at);
CREATE INDEX issue_events_issue ON hoverboard.issue_events USING btree (issue_id, id);
CREATE INDEX issue_fingerprints_carried ON hoverboard.issue_fingerprints USING btree (carried_from) WHERE (carried_from IS NOT NULL);
CREATE INDEX issue_fingerprints_issue ON hoverboard.issue_fingerprints USING btree (issue_id);
CREATE INDEX issue_fingerprints_scope ON hoverboard.issue_fingerprints USING btree (scope_id);
CREATE INDEX issues_scope ON hoverboard.issues USING btree (scope_id, state, substate);
CREATE INDEX labels_labelled_at ON hoverboard.labels USING brin (labelled_at);
CREATE INDEX labels_sample_id ON hoverboard.labels USING btree (sample_id);
CREATE INDEX outliers_at ON ONLY hoverboard.outliers USING brin (at);
CREATE INDEX outliers_default_at_idx ON hoverboard.outliers_default USING brin (at);
CREATE INDEX outliers_issue_id ON ONLY hoverboard.outliers USING btree (issue_id, at) WHERE (issue_id IS NOT NULL);
CREATE INDEX outliers_default_issue_id_at_idx ON hoverboard.outliers_default USING btree (issue_id, at) WHERE (issue_id IS NOT NULL);
CREATE INDEX outliers_sample_id ON ONLY hoverboard.outliers USING btree (sample_id);
CREATE INDEX outliers_default_sample_id_idx ON hoverboard.outliers_default USING btree (sample_id);
CREATE INDEX predictions_at ON ONLY hoverboard.predictions USING brin (at);
CREATE INDEX predictions_default_at_idx ON hoverboard.predictions_default USING brin (at);
CREATE INDEX predictions_sample_id ON ONLY hoverboard.predictions USING btree (sample_id);
CREATE INDEX predictions_default_sample_id_idx ON hoverboard.predictions_default USING btree (sample_id);
CREATE INDEX process_events_at ON hoverboard.process_events USING btree (at);
CREATE INDEX quarantine_at ON hoverboard.quarantine USING btree (at);
CREATE INDEX rejections_at ON ONLY hoverboard.rejections USING brin (at);
CREATE INDEX rejections_default_at_idx ON hoverboard.rejections_default USING brin (at);
CREATE INDEX replays_model_at ON hoverboard.replays USING btree (model, at);
CREATE INDEX samples_at ON ONLY hoverboard.samples USING brin (at);
CREATE INDEX samples_default_at_idx ON hoverboard.samples_default USING brin (at);
CREATE INDEX samples_id ON ONLY hoverboard.samples USING btree (id);
CREATE INDEX samples_default_id_idx ON hoverboard.samples_default USING btree (id);
CREATE INDEX samples_tags ON ONLY hoverboard.samples USING gin (tags jsonb_path_ops) WHERE (tags IS NOT NULL);
CREATE INDEX samples_default_tags_idx ON hoverboard.samples_default USING gin (tags jsonb_path_ops) WHERE (tags IS NOT NULL);
ALTER INDEX hoverboard.features_at ATTACH PARTITION hoverboard.features_default_at_idx;
ALTER INDEX hoverboard.features_sample_id ATTACH PARTITION hoverboard.features_default_sample_id_idx;
ALTER INDEX hoverboard.outliers_at ATTACH PARTITION hoverboard.outliers_default_at_idx;
ALTER INDEX hoverboard.outliers_issue_id ATTACH PARTITION hoverboard.outliers_default_issue_id_at_idx;
ALTER INDEX hoverboard.outliers_sample_id ATTACH PARTITION hoverboard.outliers_default_sample_id_idx;
ALTER INDEX hoverboard.predictions_at ATTACH PARTITION hoverboard.predictions_default_at_idx;
ALTER INDEX hoverboard.predictions_sample_id ATTACH PARTITION hoverboard.predictions_default_sample_id_idx;
ALTER INDEX hoverboard.rejections_at ATTACH PARTITION hoverboard.rejections_default_at_idx;
ALTER INDEX hoverboard.samples_at ATTACH PARTITION hoverboard.samples_default_at_idx;
ALTER INDEX hoverboard.samples_id ATTACH PARTITION hoverboard.samples_default_id_idx;
ALTER INDEX hoverboard.samples_tags ATTACH PARTITION hoverboard.samples_default_tags_idx;
ALTER TABLE ONLY hoverboard.alarm_events
    ADD CONSTRAINT alarm_events_version_id_fkey FOREIGN KEY (version_id) REFERENCES hoverboard.model_versions(id);
ALTER TABLE ONLY hoverboard.alarms
    ADD CONSTRAINT alarms_version_id_fkey FOREIGN KEY (version_id) REFERENCES hoverboard.model_versions(id);
ALTER TABLE ONLY hoverboard.baselines
    ADD CONSTRAINT baselines_version_id_fkey FOREIGN KEY (version_id) REFERENCES hoverboard.model_versions(id);
ALTER TABLE ONLY hoverboard.deployments
    ADD CONSTRAINT deployments_version_id_fkey FOREIGN KEY (version_id) REFERENCES hoverboard.model_versions(id);
ALTER TABLE ONLY hoverboard.drift_state
    ADD CONSTRAINT drift_state_version_id_fkey FOREIGN KEY (version_id) REFERENCES hoverboard.model_versions(id);
ALTER TABLE ONLY hoverboard.issue_days
    ADD CONSTRAINT issue_days_fingerprint_fkey FOREIGN KEY (fingerprint) REFERENCES hoverboard.issue_fingerprints(id) ON DELETE CASCADE;
ALTER TABLE ONLY hoverboard.issue_events
    ADD CONSTRAINT issue_events_issue_id_fkey FOREIGN KEY (issue_id) REFERENCES hoverboard.issues(id) ON DELETE CASCADE;
ALTER TABLE ONLY hoverboard.issue_fingerprints
    ADD CONSTRAINT issue_fingerprints_carried_from_fkey FOREIGN KEY (carried_from) REFERENCES hoverboard.issue_fingerprints(id) ON DELETE SET NULL;
ALTER TABLE ONLY hoverboard.issue_fingerprints
    ADD CONSTRAINT issue_fingerprints_issue_id_fkey FOREIGN KEY (issue_id) REFERENCES hoverboard.issues(id);
ALTER TABLE ONLY hoverboard.issue_fingerprints
    ADD CONSTRAINT issue_fingerprints_scope_id_fkey FOREIGN KEY (scope_id) REFERENCES hoverboard.issue_scopes(id);
ALTER TABLE ONLY hoverboard.issue_links
    ADD CONSTRAINT issue_links_one_fkey FOREIGN KEY (one) REFERENCES hoverboard.issue_fingerprints(id) ON DELETE CASCADE;
ALTER TABLE ONLY hoverboard.issue_links
    ADD CONSTRAINT issue_links_other_fkey FOREIGN KEY (other) REFERENCES hoverboard.issue_fingerprints(id) ON DELETE CASCADE;
ALTER TABLE ONLY hoverboard.issue_never
    ADD CONSTRAINT issue_never_one_fkey FOREIGN KEY (one) REFERENCES hoverboard.issue_fingerprints(id);
ALTER TABLE ONLY hoverboard.issue_never
    ADD CONSTRAINT issue_never_other_fkey FOREIGN KEY (other) REFERENCES hoverboard.issue_fingerprints(id);
ALTER TABLE ONLY hoverboard.issue_scope_days
    ADD CONSTRAINT issue_scope_days_scope_id_fkey FOREIGN KEY (scope_id) REFERENCES hoverboard.issue_scopes(id);
ALTER TABLE ONLY hoverboard.issues
    ADD CONSTRAINT issues_merged_into_fkey FOREIGN KEY (merged_into) REFERENCES hoverboard.issues(id);
ALTER TABLE ONLY hoverboard.issues
    ADD CONSTRAINT issues_scope_id_fkey FOREIGN KEY (scope_id) REFERENCES hoverboard.issue_scopes(id);
ALTER TABLE ONLY hoverboard.model_versions
    ADD CONSTRAINT model_versions_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES hoverboard.model_versions(id);
GRANT USAGE ON SCHEMA hoverboard TO recorder;
GRANT USAGE ON SCHEMA hoverboard TO reader;
REVOKE ALL ON FUNCTION hoverboard.drop_partitions(older_than timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION hoverboard.drop_partitions(older_than timestamp with time zone) TO recorder;
REVOKE ALL ON FUNCTION hoverboard.make_partitions(first_day date, last_day date) FROM PUBLIC;
GRANT ALL ON FUNCTION hoverboard.make_partitions(first_day date, last_day date) TO recorder;
GRANT SELECT,INSERT ON TABLE hoverboard.alarm_events TO recorder;
GRANT SELECT ON TABLE hoverboard.alarm_events TO reader;
GRANT SELECT,INSERT,UPDATE ON TABLE hoverboard.alarms TO recorder;
GRANT SELECT ON TABLE hoverboard.alarms TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.labels TO recorder;
GRANT SELECT ON TABLE hoverboard.labels TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.model_versions TO recorder;
GRANT SELECT ON TABLE hoverboard.model_versions TO reader;
GRANT UPDATE(parent_id) ON TABLE hoverboard.model_versions TO recorder;
GRANT UPDATE(first_served_at) ON TABLE hoverboard.model_versions TO recorder;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.outliers TO recorder;
GRANT SELECT ON TABLE hoverboard.outliers TO reader;
GRANT UPDATE(detector) ON TABLE hoverboard.outliers TO recorder;
GRANT UPDATE(scores) ON TABLE hoverboard.outliers TO recorder;
GRANT UPDATE(issue_id) ON TABLE hoverboard.outliers TO recorder;
GRANT UPDATE(fingerprint) ON TABLE hoverboard.outliers TO recorder;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.predictions TO recorder;
GRANT SELECT ON TABLE hoverboard.predictions TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.samples TO recorder;
GRANT SELECT ON TABLE hoverboard.samples TO reader;
GRANT SELECT ON TABLE hoverboard.answers TO recorder;
GRANT SELECT ON TABLE hoverboard.answers TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.baselines TO recorder;
GRANT SELECT ON TABLE hoverboard.baselines TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.deployments TO recorder;
GRANT SELECT ON TABLE hoverboard.deployments TO reader;
GRANT SELECT,INSERT,UPDATE ON TABLE hoverboard.drift_state TO recorder;
GRANT SELECT ON TABLE hoverboard.drift_state TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.drift_windows TO recorder;
GRANT SELECT ON TABLE hoverboard.drift_windows TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.erasures TO recorder;
GRANT SELECT ON TABLE hoverboard.erasures TO reader;
GRANT UPDATE(rows_erased) ON TABLE hoverboard.erasures TO recorder;
GRANT SELECT,INSERT ON TABLE hoverboard.gaps TO recorder;
GRANT SELECT ON TABLE hoverboard.gaps TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.issue_events TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_events TO reader;
GRANT SELECT,INSERT,UPDATE ON TABLE hoverboard.issue_scopes TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_scopes TO reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE hoverboard.issues TO recorder;
GRANT SELECT ON TABLE hoverboard.issues TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.process_events TO recorder;
GRANT SELECT ON TABLE hoverboard.process_events TO reader;
GRANT SELECT ON TABLE hoverboard.events TO recorder;
GRANT SELECT ON TABLE hoverboard.events TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.features TO recorder;
GRANT SELECT ON TABLE hoverboard.features TO reader;
GRANT SELECT ON TABLE hoverboard.features_default TO recorder;
GRANT SELECT ON TABLE hoverboard.features_default TO reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE hoverboard.issue_days TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_days TO reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE hoverboard.issue_fingerprints TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_fingerprints TO reader;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE hoverboard.issue_links TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_links TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.issue_never TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_never TO reader;
GRANT USAGE ON SEQUENCE hoverboard.issue_numbers TO recorder;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE hoverboard.issue_scope_days TO recorder;
GRANT SELECT ON TABLE hoverboard.issue_scope_days TO reader;
GRANT SELECT ON TABLE hoverboard.label_problems TO recorder;
GRANT SELECT ON TABLE hoverboard.label_problems TO reader;
GRANT SELECT ON TABLE hoverboard.outliers_default TO recorder;
GRANT SELECT ON TABLE hoverboard.outliers_default TO reader;
GRANT SELECT ON TABLE hoverboard.predictions_default TO recorder;
GRANT SELECT ON TABLE hoverboard.predictions_default TO reader;
GRANT SELECT ON TABLE hoverboard.quality TO recorder;
GRANT SELECT ON TABLE hoverboard.quality TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.quarantine TO recorder;
GRANT SELECT ON TABLE hoverboard.quarantine TO reader;
GRANT SELECT,INSERT,UPDATE ON TABLE hoverboard.recorder_cursor TO recorder;
GRANT SELECT ON TABLE hoverboard.recorder_cursor TO reader;
GRANT SELECT,INSERT,DELETE ON TABLE hoverboard.rejections TO recorder;
GRANT SELECT ON TABLE hoverboard.rejections TO reader;
GRANT SELECT ON TABLE hoverboard.rejections_default TO recorder;
GRANT SELECT ON TABLE hoverboard.rejections_default TO reader;
GRANT SELECT,INSERT ON TABLE hoverboard.replays TO recorder;
GRANT SELECT ON TABLE hoverboard.replays TO reader;
GRANT UPDATE(conditions) ON TABLE hoverboard.replays TO recorder;
GRANT UPDATE(result) ON TABLE hoverboard.replays TO recorder;
GRANT SELECT ON TABLE hoverboard.samples_default TO recorder;
GRANT SELECT ON TABLE hoverboard.samples_default TO reader;
GRANT SELECT ON TABLE hoverboard.schema_migrations TO recorder;
GRANT SELECT ON TABLE hoverboard.schema_migrations TO reader;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA hoverboard GRANT SELECT ON TABLES TO recorder;
ALTER DEFAULT PRIVILEGES FOR ROLE owner IN SCHEMA hoverboard GRANT SELECT ON TABLES TO reader;
