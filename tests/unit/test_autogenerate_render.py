"""How operations stand in a revision, and what each is the opposite of."""

import ast
import inspect

import pytest
from alembic.autogenerate import render_python_code
from alembic.operations import Operations
from alembic.operations import ops as alembic_ops
from declaring import calls, embedding
from lifecycle import CONTRACT
from test_autogenerate_compare import subject, version

from pgvmig.alembic_plugin import ops, schema_ops, switch_ops
from pgvmig.alembic_plugin.compare import compare
from pgvmig.alembic_plugin.embedding_op import EmbeddingOp
from pgvmig.alembic_plugin.notice import NoticeOp
from pgvmig.alembic_plugin.reference import operations
from pgvmig.contract import Contract

# Each is another space: what changes, and the line of the revision that says it.
CHANGES = [
    ({"model": "other"}, "'model': 'other'"),
    ({"model_version": "2"}, "'model_version': '2'"),
    ({"dimensions": 16}, "'dimensions': 16"),
    ({"input": "coalesce(title, '') || ' ' || body"}, "'input': \"coalesce(title, '') || ' ' || body\""),
    ({"provider": "elsewhere"}, "'provider': 'elsewhere'"),
    ({"metric": "l2"}, "'metric': 'l2'"),
    ({"vector_type": "halfvec"}, "'vector_type': 'halfvec'"),
    ({"document_prefix": 'it\'s "a" passage: '}, "'document_prefix': 'it\\'s \"a\" passage: '"),
    ({"query_prefix": "100 %s: "}, "'query_prefix': '100 %s: '"),
    ({"normalized": False}, "'normalized': False"),
    ({"max_input": 2000}, "'max_input': 2000"),
    ({"too_long": "truncate"}, "'too_long': 'truncate'"),
    ({"preprocessing": "strip-html-1"}, "'preprocessing': 'strip-html-1'"),
    ({"chunking": "512"}, "'chunking': '512'"),
]


def rendered(*operations):
    """What stands in upgrade() and downgrade()."""
    up = alembic_ops.UpgradeOps(list(operations))
    return statements(up), statements(up.reverse())


def statements(container):
    lines = render_python_code(container).splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines if "# ###" not in line).strip()


@pytest.mark.parametrize(("change", "line"), CHANGES, ids=[line for _, line in CHANGES])
def test_every_key_of_the_contract_is_noticed(change, line):
    declared = embedding(**change)
    there = version("v1", "active", contract=embedding().contract)
    found = compare(subject(declared, there))
    up, down = rendered(*found)
    assert calls(up) == ["add_embedding", "index_embedding"]
    assert f"\n        {line},\n" in up
    assert Contract.of(found[0].contract) == declared.contract
    assert down.splitlines() == ["op.drop_embedding_index('documents', 'v2')", "op.drop_embedding('documents', 'v2')"]
    assert compare(subject(embedding(), there)) == []


def test_a_revision_says_everything_in_literals():
    text = 'it\'s \\ "quoted", 100 % {x} \n über\u2028'
    columns = [f"column number {number}" for number in range(9)]
    add = ops.AddEmbeddingOp(
        'My "Docs"', "v1", CONTRACT | {"input": text}, columns=columns, key=["a", "b"], schema="App", slot="title"
    )
    (call,) = ast.parse(rendered(add)[0]).body
    given = [ast.literal_eval(argument) for argument in call.value.args]
    named = {argument.arg: ast.literal_eval(argument.value) for argument in call.value.keywords}
    assert given == ['My "Docs"', "v1", CONTRACT | {"input": text}]
    assert named == {"columns": columns, "key": ["a", "b"], "schema": "App", "slot": "title"}


def test_a_call_stands_on_a_line_where_it_fits():
    short = ops.IndexEmbeddingOp("documents", "v2", options={"m": 24}, after_backfill=True)
    assert rendered(short)[0] == "op.index_embedding('documents', 'v2', options={'m': 24}, after_backfill=True)"
    long = ops.IndexEmbeddingOp("documents", "v2", "ivfflat", {"lists": 10}, quantize="halfvec", after_backfill=True)
    assert rendered(long)[0].splitlines() == [
        "op.index_embedding(",
        "    'documents',",
        "    'v2',",
        "    method='ivfflat',",
        "    options={'lists': 10},",
        "    quantize='halfvec',",
        "    after_backfill=True,",
        ")",
    ]


# What each operation is turned round to; the others cannot be, and say so.
OPPOSITES = [
    (ops.AddEmbeddingOp("t", "v1", CONTRACT), "op.drop_embedding('t', 'v1')"),
    (ops.AdoptEmbeddingOp("t", "v1", "c", CONTRACT), "op.release_embedding('t', 'v1')"),
    (ops.IndexEmbeddingOp("t", "v1", schema="s"), "op.drop_embedding_index('t', 'v1', schema='s')"),
    (switch_ops.CutOverEmbeddingOp("t", "v1", "gate: why"), "op.roll_back_embedding('t', 'v1')"),
    (switch_ops.RollBackEmbeddingOp("t", "v1"), "op.cut_over_embedding('t', 'v1')"),
    (schema_ops.InstallOp(1), "op.uninstall_pgvmig()"),
    (schema_ops.UninstallOp(), "op.install_pgvmig()"),
    (schema_ops.UpgradeOp(1), "op.upgrade_pgvmig(1)"),
]


@pytest.mark.parametrize(("operation", "opposite"), OPPOSITES, ids=lambda each: getattr(each, "name", ""))
def test_the_opposite(operation, opposite):
    assert rendered(operation)[1] == opposite
    # what came from turning something round is turned round to that, with all that it said
    if isinstance(operation, EmbeddingOp):
        assert operation.reverse().reverse().to_diff_tuple() == operation.to_diff_tuple()


@pytest.mark.parametrize(
    "operation",
    [
        ops.DropEmbeddingOp("t", "v1", None, "embedding"),
        ops.ReleaseEmbeddingOp("t", "v1", None, "embedding"),
        ops.DropEmbeddingIndexOp("t", "v1"),
        switch_ops.RetireEmbeddingOp("t", "v1"),
        ops.SetEmbeddingSearchOp("t", "v1", {}),
    ],
    ids=lambda operation: operation.name,
)
def test_what_takes_away_does_not_know_what_was_there(operation):
    with pytest.raises(
        ValueError, match=f"^{operation.name} cannot be reversed: it does not say what was there before$"
    ):
        operation.reverse()


def test_a_rollback_says_after_which_revision():
    back = switch_ops.RollBackEmbeddingOp("documents", "v2")
    back.after = "0042"
    assert rendered(back)[0].splitlines() == [
        "# Revision 0042 cut over. Write this on its line, after it: alembic revision --head ...",
        "op.roll_back_embedding('documents', 'v2')",
    ]


def test_a_notice_is_a_comment_and_leaves_a_function_that_runs():
    notice = NoticeOp("documents: " + "found something;\nimport os\r\x0bimport sys " * 9)
    up, down = rendered(notice)
    assert up.startswith("# WARNING: pgvmig: documents: found something; import os")
    assert ast.parse(up).body == []
    notice.alone = True
    assert rendered(notice)[0].splitlines()[-1] == "pass"
    assert down == "pass"


@pytest.mark.parametrize("name", operations())
def test_what_a_revision_says_can_be_rendered(name):
    """The renderer reads the attributes that the signature names."""
    kind = operations()[name]
    required = {"table": "t", "version": "v1", "contract": CONTRACT, "column": "c", "search": {"ef_search": 1}}
    required |= {"prefix": "mine", "allow_superuser": True}
    parameters = list(inspect.signature(getattr(kind, name)).parameters.values())[1:]
    changed = {each.name: required.get(each.name, "said") for each in parameters}
    if name in ("install_pgvmig", "upgrade_pgvmig"):
        changed["version"] = 7
    (call,) = ast.parse(rendered_one(kind(**changed))).body
    named = {argument.arg: ast.literal_eval(argument.value) for argument in call.value.keywords}
    given = dict(zip(changed, map(ast.literal_eval, call.value.args), strict=False))
    assert given | named == changed
    assert hasattr(Operations, name)


def rendered_one(operation):
    return statements(alembic_ops.UpgradeOps([operation]))
