-- What a multi-label version answered, and samples of which several labels are true.
--
-- What it costs: new columns without values, so no table is rewritten. predictions and labels are locked for a moment.

set local search_path to hoverboard, public;
set local lock_timeout = '10s';

alter table predictions
    add column labels text[],
    add column confidences real[];
comment on column predictions.label is
    'The most probable class, for a classification. Null for a multi-label version, whose answer is in labels.';
comment on column predictions.confidence is 'Probability of that class, for a classification; null otherwise.';
comment on column predictions.labels is
    'Multi-label: every label at or above its threshold, most probable first; empty for none. Null for other tasks.';
comment on column predictions.confidences is 'Multi-label: the probability of each of labels, in their order.';

alter table labels add column labels text[];
comment on column labels.label is
    'The true class, for a classification. For a multi-label version: the one label that holds, and no other.';
comment on column labels.labels is
    'All labels that hold, sorted, where they were given as a list; empty where none does. Null for one label or a value.';

comment on column rejections.version is
    'Version or role as the caller wrote it; where a sample failed in its graph, the number of the version that ran.';
comment on column rejections.excerpt is
    'What stood there, shortened, or the graph''s own reason where a sample failed in it; null where the model''s inputs are '
    'redacted, hashed or not recorded.';

create or replace view label_problems as
select l.sample_id, l.labelled_at, l.label, l.value, l.source, v.name as model, v.version,
    case
        when l.value is not null then 'a value, and the version answers classes'
        when v.manifest ->> 'task' = 'regression' then 'a label, and the version answers numbers'
        when l.labels is null then 'none of the version''s classes'
        when v.manifest ->> 'task' = 'classification' then 'a list of labels, and the version answers one class'
        else 'a label that is none of the version''s'
    end as problem,
    l.labels
from labels l
join predictions p on p.sample_id = l.sample_id and p.at = sample_at(l.sample_id)
join model_versions v on v.id = p.version_id
where case v.manifest ->> 'task'
    when 'regression' then l.value is null
    when 'classification' then
        l.label is null
        or (jsonb_typeof(v.manifest -> 'labels') = 'array' and not v.manifest -> 'labels' ? l.label)
    when 'multi-label' then
        l.value is not null
        or (
            jsonb_typeof(v.manifest -> 'labels') = 'array'
            and not v.manifest -> 'labels' ?& coalesce(l.labels, array[l.label])
        )
    else false
end;
comment on column label_problems.labels is 'labels.labels';
