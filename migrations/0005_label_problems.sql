-- Labels that cannot be true of their sample: a view, since a label may come before what was answered is in Postgres.

set local search_path to hoverboard, public;

create view label_problems as
select l.sample_id, l.labelled_at, l.label, l.value, l.source, v.name as model, v.version,
    case
        when l.label is null then 'a value, and the version answers classes'
        when v.manifest ->> 'task' = 'regression' then 'a label, and the version answers numbers'
        else 'none of the version''s classes'
    end as problem
from labels l
join predictions p on p.sample_id = l.sample_id and p.at = sample_at(l.sample_id)
join model_versions v on v.id = p.version_id
where case v.manifest ->> 'task'
    when 'regression' then l.label is not null
    when 'classification' then
        l.value is not null
        or (jsonb_typeof(v.manifest -> 'labels') = 'array' and not v.manifest -> 'labels' ? l.label)
    when 'multi-label' then
        l.value is not null
        or (jsonb_typeof(v.manifest -> 'labels') = 'array' and not v.manifest -> 'labels' ? l.label)
    else false
end;
comment on view label_problems is
    'Labels that cannot be true of their sample, by the version that answered it. They are in labels all the same.';
comment on column label_problems.sample_id is 'labels.sample_id';
comment on column label_problems.labelled_at is 'labels.labelled_at';
comment on column label_problems.label is 'labels.label';
comment on column label_problems.value is 'labels.value';
comment on column label_problems.source is 'labels.source';
comment on column label_problems.model is 'Name of the model that answered the sample.';
comment on column label_problems.version is 'Number of the version that answered it.';
comment on column label_problems.problem is 'Why it cannot be.';
