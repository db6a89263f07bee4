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
