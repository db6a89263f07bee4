-- Single rows, to look at.

-- name: features
select sample_id, version_id, z
from features
where at >= $1 and at < $2 and sample_id = any ($3::uuid[]);

-- name: example_rows
select s.id, s.at, left(s.inputs::text, 400) as inputs, s.vector[1:8] as vector, cardinality(s.vector) as elements,
    s.tags::text as tags, p.version_id, p.label, p.value, p.p_value, l.label as true_label, l.value as true_value
from samples s
left join predictions p on p.sample_id = s.id and p.at = s.at and p.at >= $2 and p.at < $3 and p.role is distinct from 'shadow'
left join lateral (
    select label, value from labels where sample_id = s.id order by labelled_at desc limit 1
) l on true
where s.model = $1 and s.at >= $2 and s.at < $3 and s.id = any ($4::uuid[]);

-- name: example_inputs
select id, inputs::text as inputs, array_send(vector) as vector, tensors
from samples
where model = $1 and at >= $2 and at < $3 and id = any ($4::uuid[]);
