-- Roles of the embedded Postgres. Another one has the roles that its administrator made: docs/database.md.

-- name: lock_roles
select pg_advisory_xact_lock(hashtextextended('hoverboard.migrate', 0));

-- name: own_schema
-- A migration runs as the schema's owner, and so do the functions that make and drop partitions: what comes later is owned
-- likewise. A restored dump may bring the superuser's objects back, so each is looked at.
do $$
declare
    command text;
begin
    if not exists (select from pg_roles where rolname = 'hoverboard_owner') then
        create role hoverboard_owner nologin;
    end if;
    for command in
        select format('alter table hoverboard.%I owner to hoverboard_owner', c.relname)
        from pg_class c
        where c.relnamespace = 'hoverboard'::regnamespace
            and c.relowner <> 'hoverboard_owner'::regrole
            and c.relkind in ('r', 'p', 'v', 'm', 'S')
            -- A sequence of a column goes with its table.
            and not exists (
                select from pg_depend d
                where d.classid = 'pg_class'::regclass and d.objid = c.oid and c.relkind = 'S' and d.deptype in ('a', 'i')
            )
        union all
        select format('alter routine %s owner to hoverboard_owner', p.oid::regprocedure)
        from pg_proc p
        where p.pronamespace = 'hoverboard'::regnamespace and p.proowner <> 'hoverboard_owner'::regrole
        union all
        select 'alter schema hoverboard owner to hoverboard_owner'
        from pg_namespace n
        where n.nspname = 'hoverboard' and n.nspowner <> 'hoverboard_owner'::regrole
    loop
        execute command;
    end loop;
    if not exists (
        select from pg_default_acl
        where defaclrole = 'hoverboard_owner'::regrole and defaclnamespace = 'hoverboard'::regnamespace
    ) then
        alter default privileges for role hoverboard_owner in schema hoverboard grant select on tables to recorder, reader;
    end if;
end
$$;

-- name: let_in
-- The command that lets `recorder` log in, with the password $1.
select format('alter role recorder login password %L', $1::text);
