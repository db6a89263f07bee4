#!/bin/sh
# Run once, as the database's owner, when Postgres is empty: the service's login may record, and nothing else.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" <<'SQL'
\getenv password SERVICE_PASSWORD
create role recorder nologin;
create role reader nologin;
create role hoverboard_service login in role recorder password :'password';
revoke connect on database :"DBNAME" from public;
grant connect on database :"DBNAME" to recorder, reader;
alter database :"DBNAME" set search_path to hoverboard, public;
SQL
