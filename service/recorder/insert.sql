-- name: insert_labels
-- Of one sample and source only what differs from the label before it, of this call or of an earlier one: who says the
-- same twice has said it once.
insert into labels (sample_id, labelled_at, label, value, source, author, labels)
select given.sample_id, given.labelled_at, given.label, given.value, given.source, given.author, given.labels
from (
    select g.sample_id, g.labelled_at, g.label, g.value, g.source, g.author, several.labels,
        row_number() over w = 1 as leads, lag(g.label) over w as label_before, lag(g.value) over w as value_before,
        lag(several.labels) over w as labels_before
    from unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::float8[], $5::text[], $6::text[], $7::text[])
        with ordinality as g (sample_id, labelled_at, label, value, source, author, labels, place)
    cross join lateral (select g.labels::text[]) as several (labels)
    window w as (partition by g.sample_id, g.source order by g.labelled_at, g.place)
) as given
left join lateral (
    select l.label, l.value, l.labels
    from labels l
    where given.leads and l.sample_id = given.sample_id and l.source = given.source
    order by l.labelled_at desc
    limit 1
) as stored on true
where row(given.label, given.value, given.labels) is distinct from row(
    case when given.leads then stored.label else given.label_before end,
    case when given.leads then stored.value else given.value_before end,
    case when given.leads then stored.labels else given.labels_before end
);

-- name: supplement_outliers
update outliers o
set detector = $1, scores = given.scores::jsonb
from unnest($2::uuid[], $3::text[]) as given (id, scores)
where o.sample_id = given.id and o.at = sample_at(given.id);

-- name: withdraw_predictions
delete from predictions p
using unnest($2::uuid[]) as given (id)
where p.sample_id = given.id
    and p.at = sample_at(given.id)
    and p.version_id = $1
    and p.at between (select min(sample_at(id)) from unnest($2::uuid[]) as all_of (id))
        and (select max(sample_at(id)) from unnest($2::uuid[]) as all_of (id));
