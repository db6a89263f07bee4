-- name: lock_migrations
select pg_advisory_lock(hashtextextended('hoverboard.migrate', 0));

-- name: has_migrations
select to_regclass('hoverboard.schema_migrations') is not null;

-- name: applied_migrations
select version, name, sha256, applied_at from hoverboard.schema_migrations order by version;

-- name: become_owner
select set_config('role', pg_get_userbyid(nspowner), true) from pg_namespace where nspname = 'hoverboard';

-- name: note_migration
insert into hoverboard.schema_migrations (version, name, sha256) values ($1, $2, $3);
