-- name: has_installation
SELECT to_regclass('pgvmig.installation')

-- name: installed_version
SELECT schema_version FROM pgvmig.installation

-- name: require_schema
SELECT pgvmig.require_schema({wanted})

-- name: pgvector_available
SELECT default_version FROM pg_available_extensions WHERE name = 'vector'

-- name: create_pgvector
CREATE EXTENSION IF NOT EXISTS vector

-- name: record_version
INSERT INTO pgvmig.installation (schema_version, toolkit_version) VALUES ({version}, {toolkit})
ON CONFLICT (singleton) DO UPDATE
SET schema_version = excluded.schema_version, toolkit_version = excluded.toolkit_version, upgraded_at = now()

-- name: require_unused
SELECT pgvmig.require_unused()
