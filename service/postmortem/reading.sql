-- The session of somebody who asks questions.

-- name: step_down
select set_config('role', 'reader', false)
where current_user <> 'reader' and pg_has_role(session_user, 'reader', 'member');

-- name: limit_statements
select
    set_config('statement_timeout', $1, true),
    -- Between two statements a model may run over what the first one gave.
    set_config('idle_in_transaction_session_timeout', '10min', true),
    set_config('lock_timeout', '2s', true),
    -- Conditions that do not matter are null: planned with their values, they cost nothing, and only the window's days are read.
    set_config('plan_cache_mode', 'force_custom_plan', true);
