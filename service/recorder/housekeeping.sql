-- Labels that somebody should look at.

-- name: orphan_labels
select count(*)
from labels l
where l.labelled_at > now() - interval '1 hour'
    and not exists (select from samples s where s.id = l.sample_id and s.at = sample_at(l.sample_id));

-- name: impossible_labels
select count(*) from label_problems where labelled_at > now() - interval '1 hour';
