"""${message}.

What it changes, how long it locks what, and why it is safe while api and worker run.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Apply the change."""
    # Give up rather than queue behind a long transaction and block everyone who comes after.
    op.execute("SET lock_timeout = '2s'")
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Take the change back."""
    op.execute("SET lock_timeout = '2s'")
    ${downgrades if downgrades else "pass"}
