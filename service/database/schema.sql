-- Statements about sessions, the schema and its partitions; what is inserted is in queries.sql.

-- name: session
select
    set_config('search_path', 'hoverboard, public', false),
    set_config('timezone', 'UTC', false),
    -- A server's defaults are for other programs: a large COPY may take its time ...
    set_config('statement_timeout', '0', false),
    -- ... but a recorder whose machine is gone must not keep its locks.
    set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('tcp_keepalives_idle', '30', false),
    set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false),
    set_config(
        'synchronous_commit',
        case current_setting('synchronous_commit') when 'remote_apply' then 'remote_apply' else 'on' end,
        false
    );

-- name: step_down
select set_config('role', $1, false) where session_user <> $1;

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

-- name: make_partitions
select hoverboard.make_partitions($1, $2);

-- name: drop_partitions
select partition, rows from hoverboard.drop_partitions($1);

-- name: hold_partitions
select pg_advisory_xact_lock_shared(hashtextextended('hoverboard.partitions', 0));
