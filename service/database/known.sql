-- Model versions that were served.

-- name: find_version
select id, manifest::text as manifest from model_versions where name = $1 and version = $2 and weights_sha256 = $3;

-- name: insert_version
insert into model_versions (name, version, weights_sha256, manifest, parent_id, first_served_at)
values (
    $1, $2, $3, $4::text::jsonb,
    (select id from model_versions where name = $1 and version = $5 order by id desc limit 1),
    $6
)
on conflict (name, version, weights_sha256) do nothing;
