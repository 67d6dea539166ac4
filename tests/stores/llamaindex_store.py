"""LlamaIndex: PGVectorStore's table data_*, filled and asked through an index."""

from __future__ import annotations

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.vector_stores.postgres import PGVectorStore
from serving import embed, serve


class Model(BaseEmbedding):
    """A model behind HTTP."""

    base_url: str

    def _get_text_embedding(self, text):
        return embed(self.base_url, [text])[0]

    def _get_query_embedding(self, query):
        return embed(self.base_url, [query])[0]

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)


def _store(url, table, dimensions, **options):
    return PGVectorStore(
        connection_string=url.replace("+psycopg", "+psycopg2"),
        async_connection_string=url.replace("+psycopg", "+asyncpg"),
        table_name=table,
        embed_dim=dimensions,
        **options,
    )


def fill(url, model, table, texts, dimensions, **options):
    """Let the store create its table and the index fill it; nodes have metadata, which is embedded with the text."""
    store = _store(url, table, dimensions, **options)
    nodes = [
        TextNode(
            text=text,
            metadata={
                "year": 1990 + number,
                "draft": number % 2 == 0,
                "author": None,
                "title": "a {key}",
                "secret": "x",
            },
            excluded_embed_metadata_keys=["secret"],
        )
        if number % 3
        else TextNode(text=text)
        for number, text in enumerate(texts)
    ]
    VectorStoreIndex(
        nodes, storage_context=StorageContext.from_defaults(vector_store=store), embed_model=Model(base_url=model)
    )
    return [node.get_content("embed") for node in nodes]


def search(url, model, table, text, dimensions, **options):
    """Search a table, or a view, without creating anything."""
    store = _store(url, table, dimensions, perform_setup=False, **options)
    index = VectorStoreIndex.from_vector_store(store, embed_model=Model(base_url=model))
    found = index.as_retriever(similarity_top_k=3).retrieve(text)
    return [(node.get_content(), node.get_score()) for node in found]


if __name__ == "__main__":
    serve(fill, search)
