-- Runs once, when the server's data folder is created: one role per process. The role of the migration owns the tables and
-- grants each worker's role access to the tables of its domains (worker/roles.py); no worker can alter a table.
\getenv migrate MIGRATE_DB_PASSWORD
\getenv auth AUTH_DB_PASSWORD
\getenv users USERS_DB_PASSWORD
\getenv tenants TENANTS_DB_PASSWORD
\getenv files FILES_DB_PASSWORD
\getenv operations OPERATIONS_DB_PASSWORD
\getenv temporal TEMPORAL_DB_PASSWORD
\set ON_ERROR_STOP on

CREATE ROLE adx_migrate LOGIN PASSWORD :'migrate';
CREATE ROLE adx_auth LOGIN PASSWORD :'auth';
CREATE ROLE adx_users LOGIN PASSWORD :'users';
CREATE ROLE adx_tenants LOGIN PASSWORD :'tenants';
CREATE ROLE adx_files LOGIN PASSWORD :'files';
CREATE ROLE adx_operations LOGIN PASSWORD :'operations';
CREATE ROLE temporal LOGIN PASSWORD :'temporal';

CREATE DATABASE adx OWNER adx_migrate;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;

REVOKE ALL ON DATABASE adx, temporal, temporal_visibility, postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE adx TO adx_auth, adx_users, adx_tenants, adx_files, adx_operations;
