"""The old model goes. Downgrading adds it again, empty: its vectors are gone, its contract is not."""

from alembic import op

revision = "0009"
down_revision = "0008"
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
    op.retire_embedding("documents", "v1")


def downgrade():
    op.add_embedding("documents", "v1", CONTRACT, columns=COLUMNS, key=["id"])
