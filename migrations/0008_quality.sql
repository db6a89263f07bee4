-- How good answers were by the labels that came since: a row for each labelled answer, and a line a day and version.
--
-- What it costs: functions and a view; no table is touched.

set local search_path to hoverboard, public;

create function first_id(at timestamptz) returns uuid
    language sql immutable strict parallel safe
    return (lpad(to_hex(floor(extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
comment on function first_id(timestamptz) is
    'The least id of a time. `sample_id >= first_id(T)` are the samples from T on, found by the index on the id.';

create function sample_kind(why text, p_value real, manifest jsonb) returns text
    language sql immutable parallel safe
    return case
        when why = 'outlier' or p_value <= (manifest #>> '{outliers,alpha}')::double precision then 'outlier'
        when why = 'low_margin' then 'low margin'
        else 'ordinary'
    end;
comment on function sample_kind(text, real, jsonb) is
    '`outlier`, `low margin` (kept for it under the policy `sampled`) or `ordinary`: what people choose samples to label by.';

create function is_right(label text, labels text[], true_label text, true_labels text[]) returns boolean
    language sql immutable parallel safe
    return case
        when labels is null then label = true_label
        else labels @> coalesce(true_labels, nullif(array[true_label], '{null}'))
            and labels <@ coalesce(true_labels, nullif(array[true_label], '{null}'))
    end;
comment on function is_right(text, text[], text, text[]) is
    'Whether an answer is what the label says: the class, or for a multi-label version all labels that hold and no other. Null '
    'where the two cannot be compared.';

create function judged(
    of_model text, from_at timestamptz, until_at timestamptz, of_source text default null, within interval default null
) returns table (
    at timestamptz, sample_id uuid, version_id int, role text, kind text, incl_prob real, label text, labels text[],
    confidence real, confidences real[], value double precision, true_label text, true_labels text[],
    true_value double precision, source text, labelled_at timestamptz, first_labelled_at timestamptz, correct boolean,
    error double precision
)
    language sql stable parallel safe
as $$
    select p.at, p.sample_id, p.version_id, p.role, hoverboard.sample_kind(s.why, p.p_value, v.manifest), s.incl_prob,
        p.label, p.labels, p.confidence, p.confidences, p.value, t.label, t.labels, t.value, t.source, t.labelled_at,
        t.first_labelled_at, hoverboard.is_right(p.label, p.labels, t.label, t.labels), p.value - t.value
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
comment on function judged(text, timestamptz, timestamptz, text, interval) is
    'The labelled answers to samples of a model (null for all) and a time, a row each: what was answered, what was true by the '
    'latest label (of one source, or given within so long, where that is asked), whether it was right, how far a number was '
    'off, and the kind of sample.';

create view quality as
select d.day, v.name as model, v.version, q.rows, q.labelled, q.accuracy,
    case when q.accuracy is not null then greatest(q.accuracy - sqrt(q.spread + q.below), 0) end as accuracy_low,
    case when q.accuracy is not null then least(q.accuracy + sqrt(q.spread + q.above), 1) end as accuracy_high,
    q.mean_confidence, q.absolute_error, q.root_mean_squared_error, v.id as version_id
from (
    select generate_series(
        date_trunc('day', min(first_served_at) at time zone 'UTC'), now() at time zone 'UTC', interval '1 day'
    )::date as day
    from model_versions
) d
cross join lateral (
    with answered as materialized (
        select p.version_id, sample_kind(s.why, p.p_value, m.manifest) as kind, count(*) as rows,
            sum(w) as weight, sum(w ^ 2) as squared, sum(w * p.confidence) as confidence
        from predictions p
        join samples s on s.id = p.sample_id and s.at = p.at
        join model_versions m on m.id = p.version_id
        cross join lateral (select 1 / s.incl_prob::double precision as w) weighed
        where p.at >= d.day::timestamp at time zone 'UTC' and p.at < (d.day + 1)::timestamp at time zone 'UTC'
            and s.at >= d.day::timestamp at time zone 'UTC' and s.at < (d.day + 1)::timestamp at time zone 'UTC'
        group by 1, 2
    ), labelled as materialized (
        select version_id, kind, count(*) as n, sum(w) ^ 2 / sum(w ^ 2) as effective, sum(w * correct::int) / sum(w) as p,
            sum(w * abs(error)) / sum(w) as absolute, sum(w * error ^ 2) / sum(w) as squared_error
        from judged(null, d.day::timestamp at time zone 'UTC', (d.day + 1)::timestamp at time zone 'UTC')
        cross join lateral (select 1 / incl_prob::double precision as w) weighed
        where correct is not null or error is not null
        group by 1, 2
    ), kinds as (
        select a.*, l.n, l.p, l.effective, l.absolute, l.squared_error,
            a.weight / nullif(sum(a.weight) filter (where l.n > 0) over of_version, 0) as share,
            sum(a.weight * l.p) over of_version / nullif(sum(a.weight) filter (where l.n > 0) over of_version, 0) as mean,
            (l.p + 1.9207 / l.effective) / (1 + 3.8415 / l.effective) as centre,
            sqrt(3.8415 * l.p * (1 - l.p) / l.effective + 3.6891 / l.effective ^ 2) / (1 + 3.8415 / l.effective) as half
        from answered a
        left join labelled l using (version_id, kind)
        window of_version as (partition by a.version_id)
    )
    select version_id, sum(rows)::bigint as rows, coalesce(sum(n), 0)::bigint as labelled, sum(share * p) as accuracy,
        sum(squared * (p - mean) ^ 2) / sum(weight) filter (where n > 0) ^ 2 as spread,
        sum((share * (p - greatest(centre - half, 0))) ^ 2) as below, sum((share * (least(centre + half, 1) - p)) ^ 2) as above,
        sum(confidence) / sum(weight) as mean_confidence, sum(share * absolute) as absolute_error,
        sqrt(sum(share * squared_error)) as root_mean_squared_error
    from kinds
    group by version_id
) q
join model_versions v on v.id = q.version_id;
comment on view quality is
    'How good answers were by the labels that have come: a line a version and day (UTC) of the samples. Give `day` a range: each day '
    'is read whole. Each kind of sample (sample_kind) weighs what it was of all answers, since people label what looks wrong.';
comment on column quality.day is 'Of the samples, not of the labels.';
comment on column quality.model is 'Name of the model.';
comment on column quality.version is 'Number of the version.';
comment on column quality.rows is 'Its answers on record.';
comment on column quality.labelled is 'Those among them whose label has come and can be compared.';
comment on column quality.accuracy is
    'Share of right answers, of a multi-label version those with all labels that hold and no other; null for a regression.';
comment on column quality.accuracy_low is
    'Lower end of its 95% interval: Wilson''s of each kind by its effective rows, joined as Zou, Huang and Zhang (2009) do.';
comment on column quality.accuracy_high is 'Upper end of it.';
comment on column quality.mean_confidence is
    'What the version itself expects, over all answers, labelled or not; null for a regression or a multi-label version.';
comment on column quality.absolute_error is 'Mean absolute error, for a regression.';
comment on column quality.root_mean_squared_error is 'Root of the mean squared error, for a regression.';
comment on column quality.version_id is 'model_versions.id';
