"""The old model goes, a day after the last search in it.

Downgrading adds it again, empty: its vectors are gone, its contract is not.
"""

from alembic import op

revision = "0009"
down_revision = "0008"
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
    op.retire_embedding("documents", "v1")


def downgrade():
    op.add_embedding("documents", "v1", CONTRACT, columns=COLUMNS, key=["id"])
