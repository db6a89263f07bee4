-- An error that is too large to be squared and summed counts as the largest that is not: one label would otherwise take
-- the figures of all versions away.

create or replace function judged(
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
