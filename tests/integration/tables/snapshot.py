"""What a database has besides pgvmig's control schema, as text: to compare before something and after its inverse."""

from __future__ import annotations

from typing import Any

import psycopg

_SNAPSHOT = """
WITH ours AS (
    SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'pgvmig')
)
SELECT 'relation ' || c.oid::regclass, concat_ws(' | ', c.relkind, c.relpersistence, c.relowner::regrole, c.relacl,
       c.reloptions, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reltablespace, c.reloftype,
       obj_description(c.oid, 'pg_class'), CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END) FROM ours c
UNION ALL
SELECT 'column ' || c.oid::regclass || ' ' || a.attname, concat_ws(' | ', format_type(a.atttypid, a.atttypmod),
       a.attnotnull, a.attidentity, a.attgenerated, a.attcollation::regcollation, a.attacl, a.attoptions, a.attstorage,
       pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
FROM ours c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint ' || x.conrelid::regclass || ' ' || x.conname, pg_get_constraintdef(x.oid)
FROM pg_constraint x JOIN ours c ON c.oid = x.conrelid
UNION ALL
SELECT 'index ' || x.indexrelid::regclass,
       concat_ws(' | ', pg_get_indexdef(x.indexrelid), x.indisvalid, x.indisreplident)
FROM pg_index x JOIN ours c ON c.oid = x.indrelid
UNION ALL
SELECT 'trigger ' || t.tgrelid::regclass || ' ' || t.tgname, concat_ws(' | ', pg_get_triggerdef(t.oid), t.tgenabled)
FROM pg_trigger t JOIN ours c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'rule ' || r.ev_class::regclass || ' ' || r.rulename, pg_get_ruledef(r.oid) FROM pg_rewrite r
JOIN ours c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'policy ' || p.polrelid::regclass || ' ' || p.polname, concat_ws(' | ', p.polcmd, p.polroles::regrole[],
       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p
UNION ALL
SELECT 'published ' || p.pubname || ' ' || p.schemaname || '.' || p.tablename, concat_ws(' | ', p.attnames, p.rowfilter)
FROM pg_publication_tables p WHERE p.schemaname <> 'pgvmig'
UNION ALL
SELECT 'control ' || c.relname, c.relkind::text FROM pg_class c
WHERE c.relnamespace = 'pgvmig'::regnamespace
UNION ALL
SELECT 'function ' || p.oid::regprocedure, p.prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def snapshot(connection: psycopg.Connection[Any]) -> dict[str, str]:
    """Return every relation, column, constraint, index, trigger, rule, policy, function and published table."""
    return dict(connection.execute(_SNAPSHOT).fetchall())  # type: ignore[arg-type]


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return what is new, gone or changed."""
    return [
        *(f"new: {name}" for name in sorted(after.keys() - before.keys())),
        *(f"gone: {name}" for name in sorted(before.keys() - after.keys())),
        *(
            f"{name}: {before[name]} -> {after[name]}"
            for name in sorted(before.keys() & after.keys())
            if before[name] != after[name]
        ),
    ]
