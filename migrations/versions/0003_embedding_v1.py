"""The first model: columns, provenance, view and triggers. Next: pgvmig backfill documents v1."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONTRACT = {
    "provider": "old",
    "model": "wordllama-l2-supercat-256",
    "model_version": "0.4",
    "dimensions": 256,
    "input": "body",
}
COLUMNS = ["id", "title", "body", "updated_at"]



def upgrade():
    op.add_embedding("documents", "v1", CONTRACT, columns=COLUMNS, key=["id"])


def downgrade():
    op.drop_embedding("documents", "v1")
