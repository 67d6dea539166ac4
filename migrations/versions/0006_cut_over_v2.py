"""The switch. Its downgrade is the rollback."""

from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade():
    op.cut_over_embedding('documents', 'v2')


def downgrade():
    op.roll_back_embedding('documents', 'v2')
