"""Something to look at: two tenants, their people and their scenarios."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from shared.clock import utc_now
from shared.ids import new_id
from shared.models import Tenant, TestScenario, User
from shared.unit_of_work import UnitOfWork, open_unit_of_work

TENANT = "demo"
OTHER_TENANT = "acme"

# The first of each tenant created the scenarios.
PEOPLE = {TENANT: ["alice", "bob", "carol", "dave"], OTHER_TENANT: ["eve"]}
SCENARIOS = {
    TENANT: ["Checkout with a saved card", "Password reset by e-mail", "Nightly import of 10,000 orders"],
    OTHER_TENANT: ["Launch of the rocket skates"],
}


async def add_demo_data(sessions: async_sessionmaker[AsyncSession]) -> bool:
    """Add the demo data and return whether that was needed: what is there already is left as it is."""
    async with open_unit_of_work(sessions) as work:
        if await work.session.scalar(select(Tenant.id).where(Tenant.slug == TENANT)):
            return False
        for slug, people in PEOPLE.items():
            await _add_tenant(work, slug, people)
        return True


async def _add_tenant(work: UnitOfWork, slug: str, people: list[str]) -> None:
    tenant = Tenant(id=new_id(), slug=slug, name=slug.title())
    users = [
        User(tenant_id=tenant.id, id=new_id(), external_id=name, name=name.title(), email=f"{name}@{slug}.example")
        for name in people
    ]
    work.session.add(tenant)
    await work.session.flush()
    work.session.add_all(users)
    await work.session.flush()
    work.session.add_all(
        TestScenario.create(name, labels=["demo"], actor=users[0], at=utc_now()) for name in SCENARIOS[slug]
    )
