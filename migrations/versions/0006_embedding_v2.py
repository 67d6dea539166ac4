"""The second model, beside the first. Next: pgvmig backfill documents v2."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

CONTRACT = {
    "provider": "new",
    "model": "all-MiniLM-L6-v2",
    "model_version": "onnx-int8-1.0",
    "dimensions": 384,
    "input": "body",
}
COLUMNS = ["id", "title", "body", "updated_at"]



def upgrade():
    op.add_embedding("documents", "v2", CONTRACT, columns=COLUMNS, key=["id"])


def downgrade():
    op.drop_embedding("documents", "v2")
