"""Something to look at: two tenants, their people, their scenarios, and where some of them are reached."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from local.environment import HOST
from shared.addresses import parse_address
from shared.channel import EMAIL, SLACK, SMS, WEBHOOK
from shared.clock import utc_now
from shared.encryption import Cipher
from shared.ids import new_id
from shared.models import ContactPoint, Tenant, TestScenario, User
from shared.signing import add_secret, make_secret
from shared.unit_of_work import UnitOfWork, open_unit_of_work

TENANT = "demo"
OTHER_TENANT = "acme"

# The first of each tenant created the scenarios.
PEOPLE = {TENANT: ["alice", "bob", "carol", "dave"], OTHER_TENANT: ["eve"]}
SCENARIOS = {
    TENANT: ["Checkout with a saved card", "Password reset by e-mail", "Nightly import of 10,000 orders"],
    OTHER_TENANT: ["Launch of the rocket skates"],
}


# Where people of the demo tenant are reached; a path is one of the sinks' HTTP server.
CONTACT_POINTS = [
    ("bob", EMAIL, f"bob@{TENANT}.example"),
    ("bob", WEBHOOK, "/hooks/bob"),
    ("carol", SLACK, "/services/carol"),
    # Of a range that no operator gives away (North America, 555-01XX).
    ("dave", SMS, "+12025550104"),
]


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


async def add_contact_points(sessions: async_sessionmaker[AsyncSession], *, cipher: Cipher, sinks_url: str) -> None:
    """Let the people of the demo tenant be reached at the sinks, verified, where they have said nothing else.

    The sinks may have another port than at the last start: addresses of theirs are written anew.
    """
    async with open_unit_of_work(sessions) as work:
        users = {
            user.external_id: user
            for user in await work.session.scalars(select(User).join(Tenant).where(Tenant.slug == TENANT))
        }
        for name, channel, place in CONTACT_POINTS:
            if name in users:
                address = f"{sinks_url}{place}" if place.startswith("/") else place
                await _put_contact_point(work.session, users[name], channel, address, cipher)


async def _put_contact_point(session: AsyncSession, user: User, channel: str, text: str, cipher: Cipher) -> None:
    address = parse_address(channel, text)
    secrets = add_secret(None, make_secret(), at=utc_now()) if channel == WEBHOOK else None
    point = insert(ContactPoint).values(
        tenant_id=user.tenant_id,
        id=new_id(),
        user_id=user.id,
        channel=channel,
        encrypted_address=cipher.encrypt(user.tenant_id, address.value),
        masked_address=address.masked,
        endpoint=address.endpoint,
        encrypted_secrets=cipher.encrypt(user.tenant_id, secrets) if secrets else None,
        verified_at=utc_now(),
    )
    await session.execute(
        point.on_conflict_do_update(
            index_elements=["tenant_id", "user_id", "channel"],
            set_={name: getattr(point.excluded, name) for name in ("encrypted_address", "masked_address", "endpoint")},
            where=ContactPoint.masked_address.startswith(f"http://{HOST}:")
            & (ContactPoint.endpoint != point.excluded.endpoint),
        )
    )
