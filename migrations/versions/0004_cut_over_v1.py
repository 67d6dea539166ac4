"""Searches begin: documents_current shows v1."""

from alembic import op

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade():
    op.cut_over_embedding('documents', 'v1')


def downgrade():
    op.roll_back_embedding('documents', 'v1')
