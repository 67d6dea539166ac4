"""The demo application's model: a table, and how its rows are embedded. Autogenerate compares it with the database."""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, Identity, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pgvmig.sqlalchemy import Embedding


class Base(DeclarativeBase):
    """Base of the models."""


class Document(Base):
    """A passage of text."""

    __tablename__ = "documents"
    __table_args__ = (
        Embedding(
            provider="new",
            model="all-MiniLM-L6-v2",
            model_version="onnx-int8-1.0",
            dimensions=384,
            input="body",
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
