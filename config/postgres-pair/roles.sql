-- Once, on the primary. Then \password standby.

-- The agent on its own host: sees how its server is, promotes it, and says whom a commit waits for.
create role vipd login in role pg_monitor;
grant execute on function pg_promote, pg_reload_conf to vipd;
grant alter system on parameter synchronous_standby_names to vipd;

-- The agent of the other host, which asks for role and timeline.
create role vipd_peer login;

-- The other host's server, and pg_rewind on it.
create role standby login replication in role pg_checkpoint;
grant execute on function pg_ls_dir(text, boolean, boolean) to standby;
grant execute on function pg_stat_file(text, boolean) to standby;
grant execute on function pg_read_binary_file(text) to standby;
grant execute on function pg_read_binary_file(text, bigint, bigint, boolean) to standby;
