"""The second model's index, after its backfill."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade():
    op.index_embedding("documents", "v2")


def downgrade():
    op.drop_embedding_index("documents", "v2")
