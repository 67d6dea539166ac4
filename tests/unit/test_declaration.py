"""Embeddings declared beside their tables: what SQLAlchemy makes of them, and what is refused at once."""

import pytest
from declaring import documents, embedding
from lifecycle import CONTRACT
from sqlalchemy import MetaData, create_mock_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgvmig.errors import ContractError, UsageError
from pgvmig.sqlalchemy import Embedding, declare, declared


def test_in_a_declarative_model_with_a_mixin():
    class Base(DeclarativeBase):
        metadata = MetaData(schema="app")

    class Embedded:
        __table_args__ = (embedding(), embedding(slot="headline", input="title"))

    class Note(Embedded, Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Page(Embedded, Base):
        __tablename__ = "pages"
        id: Mapped[int] = mapped_column(primary_key=True)

    found = [(schema, table, each.slot) for schema, table, each in declared(Base.metadata)]
    assert found == [
        ("app", "notes", "embedding"),
        ("app", "notes", "headline"),
        ("app", "pages", "embedding"),
        ("app", "pages", "headline"),
    ]
    assert [each.contract.input for _, table, each in declared(Base.metadata) if table == "notes"] == ["body", "title"]


def test_in_a_table_and_without_one():
    metadata = documents(embedding())
    declare(metadata, "elsewhere", embedding(model="other"), schema="App")
    assert [(schema, table, each.contract.model) for schema, table, each in declared(metadata)] == [
        (None, "documents", "hash"),
        ("App", "elsewhere", "other"),
    ]


def test_a_declaration_changes_nothing_about_the_table():
    """In `Table.info` it would be written into op.create_table()."""
    with_it, without = documents(embedding()), documents()
    assert with_it.tables["documents"].info == {}
    assert _ddl(with_it) == _ddl(without)


def _ddl(metadata):
    statements = []
    engine = create_mock_engine("postgresql://", lambda sql, *_, **__: statements.append(str(sql.compile(engine))))
    metadata.create_all(engine)
    return statements


def test_two_in_a_slot_are_refused():
    with pytest.raises(ContractError) as error:
        documents(embedding(), embedding(model="other"))
    assert str(error.value) == (
        "documents declares two embeddings in the slot 'embedding'. Only one of them could be the active version's. "
        "Next: give each a slot of its own: Embedding(slot='summary', ...)"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"model_version": "latest"}, "model_version is 'latest'"),
        ({"dimension": 8}, "the contract has no key 'dimension'"),
        ({"layout": "tables"}, "layout is 'tables'. Next: use one of column, table"),
        ({"index": "btree"}, "method is 'btree'. Next: use one of hnsw, ivfflat"),
        ({"index_options": {"lists": 10}}, "hnsw has no option 'lists'"),
        ({"quantize": "int8"}, "quantize is 'int8'"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_when_the_models_are_loaded(wrong, said):
    with pytest.raises((ContractError, UsageError)) as error:
        Embedding(**(CONTRACT | wrong))
    assert str(error.value).startswith(said)
