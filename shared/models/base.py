"""The declarative base: names of constraints, types of columns, and the key all tables share."""

from datetime import datetime
from enum import Enum, StrEnum
from typing import ClassVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.ids import new_id

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


def _values(members: type[Enum]) -> list[str]:
    return [member.value for member in members]


class Base(DeclarativeBase):
    """Base of every model."""

    metadata = sa.MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {
        datetime: sa.TIMESTAMP(timezone=True),
        str: sa.Text(),
        list[str]: postgresql.ARRAY(sa.Text()),
        UUID: sa.Uuid(),
        # Text with a CHECK: a new value is a new constraint, not an ALTER TYPE; and values, not member names.
        StrEnum: sa.Enum(StrEnum, native_enum=False, length=32, create_constraint=True, values_callable=_values),
    }


class TenantOwned:
    """A row of one tenant, keyed by `(tenant_id, id)`.

    The composite key is what other tables refer to, so no row can refer across
    tenants, and one index serves identity, scope and the order of lists.
    """

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-2)
    id: Mapped[UUID] = mapped_column(primary_key=True, default=new_id, sort_order=-1)


def refers_to(table: str, column: str, *, ondelete: str | None = None) -> sa.ForeignKeyConstraint:
    """Return the foreign key from `(tenant_id, column)` to the given table's `(tenant_id, id)`."""
    return sa.ForeignKeyConstraint(["tenant_id", column], [f"{table}.tenant_id", f"{table}.id"], ondelete=ondelete)
