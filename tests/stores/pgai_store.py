"""pgai: its vectorizer's tables and view, and its SQLAlchemy relationship.

Its worker needs packages that this environment lacks, so rows are written here by the statement that it writes them
with (COPY into the key's columns, chunk_seq, chunk, embedding).
"""

from __future__ import annotations

import pgai
import psycopg
from pgai.sqlalchemy import vectorizer_relationship
from psycopg import sql
from serving import embed, serve
from sqlalchemy import Text, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

CREATE = """
SELECT ai.create_vectorizer(
    %(source)s::regclass, name => %(source)s::text, loading => ai.loading_column('body'), parsing => ai.parsing_none(),
    chunking => ai.chunking_character_text_splitter(40, 0, separator => '. '),
    embedding => ai.embedding_openai(%(model)s, %(dimensions)s, base_url => %(url)s),
    indexing => ai.indexing_none(), scheduling => ai.scheduling_none())
"""


def create(dsn, source, url, model, dimensions):
    """Let pgai install itself and create a vectorizer."""
    pgai.install(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(CREATE, {"source": source, "url": url, "model": model, "dimensions": dimensions})


def work(dsn, source, url):
    """Embed the rows that wait, as pgai's worker does."""
    store = sql.Identifier(f"{source}_embedding_store")
    with psycopg.connect(dsn, autocommit=True) as conn:
        (queue,) = conn.execute("SELECT queue_schema || '.' || queue_table FROM ai.vectorizer").fetchone()
        schema, table = queue.split(".")
        queue = sql.Identifier(schema, table)
        rows = conn.execute(
            sql.SQL("SELECT id, body FROM {} WHERE id IN (SELECT id FROM {})").format(sql.Identifier(source), queue)
        ).fetchall()
        with conn.transaction(), conn.cursor() as cursor:
            cursor.execute(sql.SQL("DELETE FROM {} WHERE id = ANY (%s)").format(store), [[key for key, _ in rows]])
            chunks = [(key, n, text) for key, body in rows for n, text in enumerate(body.split(". "))]
            vectors = embed(url, [text for _, _, text in chunks]) if chunks else []
            statement = sql.SQL("COPY {} (id, chunk_seq, chunk, embedding) FROM STDIN").format(store)
            with cursor.copy(statement) as copy:
                for chunk, vector in zip(chunks, vectors, strict=True):
                    copy.write_row((*chunk, str(vector)))
            cursor.execute(sql.SQL("DELETE FROM {}").format(queue))
    return len(chunks)


def search_view(dsn, view, url, text):
    """Search pgai's own view."""
    with psycopg.connect(dsn) as conn:
        statement = sql.SQL("SELECT chunk, body FROM {} ORDER BY embedding <=> %s::vector LIMIT 2")
        return conn.execute(statement.format(sql.Identifier(view)), [str(embed(url, [text])[0])]).fetchall()


def search_model(*, url, source, table, model, text, dimensions):
    """Search with pgai's SQLAlchemy relationship, its table named by `table`: also a view."""

    class Base(DeclarativeBase):
        pass

    class Document(Base):
        __tablename__ = source
        id: Mapped[int] = mapped_column(primary_key=True)
        body: Mapped[str] = mapped_column(Text)
        chunks = vectorizer_relationship(target_table=table, dimensions=dimensions)

    engine = create_engine(url)
    with Session(engine) as session:
        distance = Document.chunks.embedding.cosine_distance(embed(model, [text])[0])
        found = session.execute(select(Document.chunks, distance).order_by(distance).limit(2)).all()
        answer = [(chunk.chunk, float(d), chunk.parent.id) for chunk, d in found]
    engine.dispose()
    return answer


if __name__ == "__main__":
    serve(create, work, search_view, search_model)
