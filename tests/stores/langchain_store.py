"""LangChain: PGVector's tables, and PGVectorStore's. `models` are base URLs of OpenAI-compatible servers."""

from __future__ import annotations

from langchain_core.embeddings import Embeddings
from langchain_postgres import PGEngine, PGVector, PGVectorStore
from serving import embed, serve
from sqlalchemy import create_engine


class Model(Embeddings):
    """A model behind HTTP."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def embed_documents(self, texts):
        return embed(self.base_url, texts)

    def embed_query(self, text):
        return embed(self.base_url, [text])[0]


def fill(url, model, collection, texts):
    """Let PGVector create its tables and add texts to a collection."""
    store = PGVector(Model(model), connection=url, collection_name=collection)
    return store.add_texts(texts, [{"number": number} for number, _ in enumerate(texts)])


def search(url, model, collection, text, schema=None):
    """Search with PGVector; `schema` is looked into before public."""
    options = {"connect_args": {"options": f"-csearch_path={schema},public"}} if schema else {}
    engine = create_engine(url, **options)
    store = PGVector(Model(model), connection=engine, collection_name=collection, create_extension=False)
    found = store.similarity_search_with_score(text, k=3, filter={"number": {"$gte": 0}})
    engine.dispose()
    return [(document.page_content, score) for document, score in found]


def fill_v2(url, model, table, texts, dimensions):
    """Let PGEngine create a table and PGVectorStore add texts."""
    engine = PGEngine.from_connection_string(url)
    engine.init_vectorstore_table(table, dimensions)
    store = PGVectorStore.create_sync(engine, Model(model), table)
    added = store.add_texts(texts, [{"number": number} for number, _ in enumerate(texts)])
    engine._run_as_sync(engine.close())
    return added


def add_v2(url, model, table, texts):
    """Go on writing, as the application does."""
    engine = PGEngine.from_connection_string(url)
    added = PGVectorStore.create_sync(engine, Model(model), table).add_texts(texts)
    engine._run_as_sync(engine.close())
    return added


def search_v2(url, model, table, text):
    """Search a table, or a view, with PGVectorStore."""
    engine = PGEngine.from_connection_string(url)
    store = PGVectorStore.create_sync(engine, Model(model), table)
    found = store.similarity_search_with_score(text, k=3)
    engine._run_as_sync(engine.close())
    return [(document.page_content, score) for document, score in found]


if __name__ == "__main__":
    serve(fill, search, fill_v2, add_v2, search_v2)
