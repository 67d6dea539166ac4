"""The first model: columns, provenance, view and triggers. Next: pgvmig backfill documents v1."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

CONTRACT = {
    "provider": "old",
    "model": "wordllama",
    "model_version": "l2_supercat_256",
    "dimensions": 256,
    "input": "body",
}
COLUMNS = ["id", "title", "body", "updated_at"]



def upgrade():
    op.add_embedding("documents", "v1", CONTRACT, columns=COLUMNS, key=["id"])


def downgrade():
    op.drop_embedding("documents", "v1")
