-- How good the answers of a window were, as counts that a few numbers tell all of: however many rows there are, few come back.

-- name: versions
select id, version, weights_sha256, manifest ->> 'task' as task, manifest -> 'labels' as labels
from model_versions
where name = $1
order by version, first_served_at, id;

-- name: recorded_models
select distinct name from model_versions order by name;

-- name: expected_rows
explain (format json) select from predictions where at >= $1 and at < $2;

-- name: answered
-- All rows, labelled or not. The draw is by a byte of the id that the policy `sampled` does not draw by.
select p.version_id, sample_kind(s.why, p.p_value, v.manifest) as kind,
    width_bucket(date_part('epoch', $4::timestamptz - p.at), $5::double precision[]) as age,
    least(floor(score * 10 + 1e-6)::int, 9) as tenth, floor(50 * ln(inside / (1 - inside)))::int as bin, count(*) as rows,
    sum(w) as weight, sum(w ^ 2) as squared, sum(w * score) as score
from predictions p
join samples s on s.id = p.sample_id and s.at = p.at
join model_versions v on v.id = p.version_id
cross join lateral (
    select 1 / s.incl_prob::double precision as w,
        coalesce(
            p.confidence::double precision,
            (select exp(sum(ln(greatest(c, 1e-30::real)::double precision))) from unnest(p.confidences) c)
        ) as score
) each
cross join lateral (select least(greatest(score, 1e-6), 1 - 1e-6) as inside) clipped
where v.name = $1 and p.at >= $2 and p.at < $3 and s.at >= $2 and s.at < $3
    and get_byte(uuid_send(p.sample_id), 11) < $6 and get_byte(uuid_send(s.id), 11) < $6
    and ($7::text is null or (s.tags @> $7::text::jsonb) is true)
    and ($8::bigint is null or v.version = $8)
    and ($9::text is null or p.label = $9 or $9 = any (p.labels))
    and ($10::text is null or s.caller = $10)
    and ($11::text is null or p.process = $11)
    and ($12::text[] is null or not coalesce(s.tags @> any ($12::text[]::jsonb[]), false))
    and ($13::bigint[] is null or v.version <> all ($13))
    and ($14::text[] is null or not coalesce(p.label = any ($14), p.labels && $14, false))
    and ($15::text[] is null or not coalesce(s.caller = any ($15), false))
    and ($16::text[] is null or not coalesce(p.process = any ($16), false))
group by 1, 2, 3, 4, 5;

-- name: meant
-- The labelled answers that are asked about, as `judged` gives them: what the four statements after it begin with.
select * from judged($1, $2, $3, $4, $5) j
where not $6::boolean or exists (
    select from samples s
    join predictions p on p.sample_id = s.id and p.at = s.at and p.version_id = j.version_id and p.at >= $2 and p.at < $3
    join model_versions v on v.id = p.version_id
    where s.id = j.sample_id and s.at = j.at and s.at >= $2 and s.at < $3
        and ($7::text is null or (s.tags @> $7::text::jsonb) is true)
        and ($8::bigint is null or v.version = $8)
        and ($9::text is null or p.label = $9 or $9 = any (p.labels))
        and ($10::text is null or s.caller = $10)
        and ($11::text is null or p.process = $11)
        and ($12::text[] is null or not coalesce(s.tags @> any ($12::text[]::jsonb[]), false))
        and ($13::bigint[] is null or v.version <> all ($13))
        and ($14::text[] is null or not coalesce(p.label = any ($14), p.labels && $14, false))
        and ($15::text[] is null or not coalesce(s.caller = any ($15), false))
        and ($16::text[] is null or not coalesce(p.process = any ($16), false))
);

-- name: labelled
select version_id, at >= $17 as inside_window, kind, 1 / incl_prob::double precision as w, source, correct,
    width_bucket(date_part('epoch', $18::timestamptz - at), $19::double precision[]) as age,
    least(floor(score * 10 + 1e-6)::int, 9) as tenth, floor(50 * ln(inside / (1 - inside)))::int as bin, count(*) as rows,
    sum(score) as score
from meant
cross join lateral (
    select coalesce(
        confidence::double precision,
        (select exp(sum(ln(greatest(c, 1e-30::real)::double precision))) from unnest(confidences) c)
    ) as score
) each
cross join lateral (select least(greatest(score, 1e-6), 1 - 1e-6) as inside) clipped
where correct is not null
group by 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: errors
select version_id, kind, 1 / incl_prob::double precision as w, source,
    width_bucket(date_part('epoch', $17::timestamptz - at), $18::double precision[]) as age, count(*) as rows,
    sum(error) as first, sum(abs(error)) as absolute, sum(error ^ 2) as second, sum(error ^ 4) as fourth
from meant
where error is not null
group by 1, 2, 3, 4, 5;

-- name: by_label
select j.version_id, e.label, count(*) filter (where e.said) as said_rows, count(*) filter (where e.held) as held_rows,
    coalesce(sum(w) filter (where e.said and e.held), 0) as both, coalesce(sum(w) filter (where e.said), 0) as said,
    coalesce(sum(w) filter (where e.held), 0) as held, coalesce(sum(w ^ 2) filter (where e.said), 0) as said_squared,
    coalesce(sum(w ^ 2) filter (where e.held), 0) as held_squared
from meant j
cross join lateral (select 1 / j.incl_prob::double precision as w) weighed
cross join lateral (
    select label, bool_or(said) as said, bool_or(held) as held
    from (
        select unnest(coalesce(j.labels, array[j.label])) as label, true as said, false as held
        union all
        select unnest(coalesce(j.true_labels, array[j.true_label])), false, true
    ) each
    group by label
) e
where j.correct is not null
group by 1, 2
order by held_rows desc, label
limit 5000;

-- name: delays
select version_id, count(*) as rows, count(*) filter (where correct is null and error is null) as left_out,
    percentile_cont(array[0.5, 0.9]) within group (order by date_part('epoch', first_labelled_at - at)) as delays_s
from meant
group by 1;

-- name: disagreements
select count(*) filter (where sources > 1) as several, count(*) filter (where answers > 1) as disagree
from (
    select l.sample_id, count(*) as sources, count(distinct md5(row(l.label, l.labels, l.value)::text)) as answers
    from (
        select distinct on (sample_id, source) *
        from labels
        where sample_id >= first_id($2) and sample_id < first_id($3)
        order by sample_id, source, labelled_at desc, ctid desc
    ) l
    join samples s on s.id = l.sample_id and s.at = sample_at(l.sample_id)
    -- Once more in their own words: else every day's samples would be read.
    where s.model = $1 and s.at >= $2 and s.at < $3
        and (not $4::boolean or exists (
            select from predictions p
            join model_versions v on v.id = p.version_id
            where p.sample_id = s.id and p.at = s.at and p.at >= $2 and p.at < $3
                and ($5::text is null or (s.tags @> $5::text::jsonb) is true)
                and ($6::bigint is null or v.version = $6)
                and ($7::text is null or p.label = $7 or $7 = any (p.labels))
                and ($8::text is null or s.caller = $8)
                and ($9::text is null or p.process = $9)
                and ($10::text[] is null or not coalesce(s.tags @> any ($10::text[]::jsonb[]), false))
                and ($11::bigint[] is null or v.version <> all ($11))
                and ($12::text[] is null or not coalesce(p.label = any ($12), p.labels && $12, false))
                and ($13::text[] is null or not coalesce(s.caller = any ($13), false))
                and ($14::text[] is null or not coalesce(p.process = any ($14), false))
        ))
    group by l.sample_id
) samples_with_labels;
