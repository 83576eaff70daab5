"""The second wall: what PostgreSQL itself refuses, whatever a query asks."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, async_sessionmaker

from api.notifications import repository
from api.notifications.schemas import NotificationQuery
from api.pagination import Window
from local.postgres import EmbeddedPostgres
from local.roles import Login, grant_roles
from shared import roles
from shared.db import create_engine
from shared.ids import new_id
from shared.models import ApiKey, Base, Delivery, Event, Tenant, TestScenario, User
from shared.schema import migrate
from shared.scope import Scope, enter_scope, show_api_key
from shared.unit_of_work import open_unit_of_work
from tests.factories import (
    make_api_key,
    make_attempt,
    make_contact_point,
    make_delivery,
    make_event,
    make_execution,
    make_idempotency_key,
    make_notification,
    make_scenario,
    make_send_quota,
    make_subscription,
    make_tenant,
    make_user,
)
from tests.fixtures.database import database_settings

Sessions = async_sessionmaker[AsyncSession]

ROOT = Path(__file__).resolve().parents[2]

TENANT_TABLES = sorted(name for name, table in Base.metadata.tables.items() if "tenant_id" in table.columns)
READ_BY_API = [name for name in TENANT_TABLES if name != "api_key_audit_entries"]
# What a program sees of its whole tenant, and a person of their own.
LOG_TABLES = ("deliveries", "delivery_attempts")

# By the column that says whose rows they are.
CALLER_TABLES = {
    "contact_points": "user_id",
    "deliveries": "user_id",
    "idempotency_keys": "caller_id",
    "notification_subscriptions": "user_id",
    "send_quotas": "user_id",
    "user_notifications": "user_id",
}


@dataclass(frozen=True)
class Person:
    """A user, and one row of theirs in each table."""

    user: User
    scenario: TestScenario
    event: Event
    delivery: Delivery
    key: ApiKey

    @property
    def scope(self) -> Scope:
        return Scope(self.user.tenant_id, self.user.id)


@pytest.fixture
async def people(sessions: Sessions) -> dict[str, Person]:
    """Alice and bob share a tenant; mallory belongs to another one."""
    async with sessions.begin() as session:
        tenants = {slug: await make_tenant(session, slug) for slug in ("demo", "other")}
        return {
            name: await make_person(session, await make_user(session, tenants[slug], name))
            for name, slug in (("alice", "demo"), ("bob", "demo"), ("mallory", "other"))
        }


async def make_person(session: AsyncSession, user: User) -> Person:
    scenario = await make_scenario(session, user)
    await make_execution(session, scenario, user)
    event = await make_event(session, scenario, user)
    await make_subscription(session, user, event_type="scenario.executed")
    await make_notification(session, user, event)
    await make_idempotency_key(session, user)
    await make_contact_point(session, user)
    delivery = await make_delivery(session, user, event)
    await make_attempt(session, delivery)
    await make_send_quota(session, user)
    key, _ = await make_api_key(session, await session.get_one(Tenant, user.tenant_id))
    return Person(user, scenario, event, delivery, key)


@pytest.fixture
def alice(people: dict[str, Person]) -> Person:
    return people["alice"]


@pytest.fixture
def mallory(people: dict[str, Person]) -> Person:
    return people["mallory"]


@pytest.fixture
async def as_alice(api_sessions: Sessions, alice: Person) -> AsyncIterator[AsyncSession]:
    """A transaction of the api that works for alice."""
    async with api_sessions() as session:
        await enter_scope(session, alice.scope)
        yield session


class TestEveryTable:
    async def test_of_a_tenant_has_policies_that_hold_for_its_owner_too(self, engine: AsyncEngine):
        query = text("""
            SELECT relname, relrowsecurity, relforcerowsecurity,
                   ARRAY(SELECT pg_get_expr(polqual, polrelid) FROM pg_policy
                          WHERE polrelid = class.oid AND polroles = '{0}') AS for_everybody
              FROM pg_class AS class
             WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
               AND EXISTS (SELECT FROM pg_attribute
                            WHERE attrelid = class.oid AND attname = 'tenant_id' AND NOT attisdropped)
             ORDER BY relname
        """)
        async with engine.connect() as connection:
            tables = (await connection.execute(query)).all()

        assert [table.relname for table in tables] == TENANT_TABLES
        for name, enabled, forced, for_everybody in tables:
            assert (name, enabled, forced) == (name, True, True)
            [condition] = for_everybody
            setting = "app.caller_id" if name in CALLER_TABLES else "app.tenant_id"
            # A sub-select, which is evaluated once, and not for every row.
            assert f"( SELECT (NULLIF(current_setting('{setting}'::text, true), ''::text))::uuid" in condition

    async def test_is_reached_by_api_worker_and_relay_only_with_the_rights_they_need(self, engine: AsyncEngine):
        query = text("""
            SELECT grantee::regrole::text AS role, class.relname || '.' || lower(privilege_type) AS right
              FROM pg_class AS class, aclexplode(class.relacl)
             WHERE relnamespace = 'public'::regnamespace AND grantee <> class.relowner
             UNION ALL
            SELECT grantee::regrole::text,
                   class.relname || '.' || lower(privilege_type) || '('
                   || string_agg(attname, ',' ORDER BY attname) || ')'
              FROM pg_class AS class JOIN pg_attribute ON attrelid = class.oid, aclexplode(attacl)
             WHERE relnamespace = 'public'::regnamespace
             GROUP BY grantee, class.relname, privilege_type
        """)
        async with engine.connect() as connection:
            found: dict[str, set[str]] = {}
            for role, right in await connection.execute(query):
                found.setdefault(role, set()).add(right)

        assert found == RIGHTS

    async def test_nobody_but_the_api_may_become_the_relay(self, engine: AsyncEngine):
        query = text("""
            SELECT member.rolname, inherit_option, set_option
              FROM pg_auth_members
              JOIN pg_roles AS granted ON granted.oid = roleid
              JOIN pg_roles AS member ON member.oid = member
             WHERE granted.rolname = :relay AND NOT admin_option
        """)
        async with engine.connect() as connection:
            assert (await connection.execute(query, {"relay": roles.RELAY})).all() == [(roles.API, False, True)]

    async def test_of_the_groups_none_can_log_in_or_skip_the_policies(self, engine: AsyncEngine):
        query = text("""
            SELECT rolname FROM pg_roles
             WHERE rolname LIKE 'notifications%' AND NOT (rolcanlogin OR rolbypassrls OR rolsuper OR rolcreaterole)
             ORDER BY rolname
        """)
        async with engine.connect() as connection:
            assert list(await connection.scalars(query)) == [
                roles.API,
                roles.OPERATOR,
                roles.RELAY,
                roles.WORKER,
            ]


RIGHTS = {
    roles.API: {
        "alembic_version.select",
        "api_keys.select",
        "api_keys.update(last_used_at)",
        "contact_points.delete",
        "contact_points.insert",
        "contact_points.select",
        "contact_points.update",
        "deliveries.select",
        "deliveries.update(ended_at,expires_at,failure_count,lease_token,next_attempt_at,reason,status)",
        "delivery_attempts.select",
        "event_types.select",
        "events.insert",
        "events.select",
        "executions.insert",
        "executions.select",
        "idempotency_keys.insert",
        "idempotency_keys.select",
        "idempotency_keys.update(body,created_at,expires_at,fingerprint,headers,status)",
        "notification_subscriptions.delete",
        "notification_subscriptions.insert",
        "notification_subscriptions.select",
        "notification_subscriptions.update(channels,level,updated_at)",
        "send_quotas.insert",
        "send_quotas.select",
        "send_quotas.update(sent_at,sent_count,window_started_at)",
        "tenants.select(id,slug)",
        "test_scenarios.insert",
        "test_scenarios.select",
        "test_scenarios.update(deleted_at,description,executed_at,labels,name)",
        "user_notifications.select",
        "user_notifications.update(archived_at,read_at,seen_at)",
        "users.insert",
        "users.select",
        "users.update(email,locale,name,notify_self,profile_stated_at,time_zone,updated_at)",
    },
    roles.WORKER: {
        "alembic_version.select",
        "contact_points.select",
        "contact_points.update(disabled_at,disabled_reason,failing_since,last_attempt_at,last_result)",
        "deliveries.insert",
        "deliveries.select",
        ("deliveries.update(attempt_count,ended_at,failure_count,lease_token,next_attempt_at,reason,status)"),
        "delivery_attempts.insert",
        "delivery_attempts.select",
        "delivery_attempts.update(detail,ended_at,provider,provider_id,result)",
        "event_types.select",
        "events.select",
        (
            "events.update(claimed_until,dead_letter_reason,dead_lettered_at,fan_out_cursor,fanned_out_at,published_at,"
            "republish_count)"
        ),
        "idempotency_keys.delete",
        "idempotency_keys.select(caller_id,expires_at,key,tenant_id)",
        "idempotency_keys.update(expires_at)",
        "notification_subscriptions.select",
        "user_notifications.insert",
        "user_notifications.select",
        "users.select(id,locale,name,notify_self,tenant_id,time_zone)",
    },
    roles.OPERATOR: {
        "api_key_audit_entries.insert",
        "api_key_audit_entries.select",
        "api_keys.insert",
        "api_keys.select",
        "api_keys.update(revoked_at)",
        "contact_points.select(encrypted_address,encrypted_secrets,id,tenant_id)",
        "contact_points.update(encrypted_address,encrypted_secrets)",
        "tenants.insert",
        "tenants.select",
        "users.select(id,tenant_id)",
    },
    roles.RELAY: {
        (
            "events.select(claimed_until,dead_lettered_at,event_type,id,occurred_at,published_at,quarantined_at,"
            "refusal_count,scenario_id,tenant_id)"
        ),
        (
            "events.update(claimed_until,dead_letter_reason,dead_lettered_at,publish_error,published_at,quarantined_at,"
            "refusal_count)"
        ),
    },
}


async def owners(session: AsyncSession, table: str) -> list[UUID]:
    """Return whose rows a query sees that asks for no tenant and no user."""
    column = CALLER_TABLES.get(table, "tenant_id")
    return list(await session.scalars(text(f"SELECT {column} FROM {table}")))  # noqa: S608 - a table of ours


class TestApi:
    @pytest.mark.parametrize("table", READ_BY_API)
    async def test_a_query_without_predicate_sees_only_what_is_mine(
        self, as_alice: AsyncSession, alice: Person, table: str
    ):
        mine = alice.user.id if table in CALLER_TABLES else alice.user.tenant_id

        assert set(await owners(as_alice, table)) == {mine}

    @pytest.mark.parametrize("table", READ_BY_API)
    @pytest.mark.usefixtures("people")
    async def test_a_unit_of_work_without_scope_sees_nothing(self, api_sessions: Sessions, table: str):
        async with open_unit_of_work(api_sessions) as work:
            assert await owners(work.session, table) == []

    @pytest.mark.parametrize("table", CALLER_TABLES)
    async def test_a_tenant_without_a_caller_sees_nothing_of_any(
        self, api_sessions: Sessions, alice: Person, table: str
    ):
        async with open_unit_of_work(api_sessions) as work:
            await enter_scope(work.session, Scope(alice.user.tenant_id))
            assert await owners(work.session, table) == []

    async def test_the_scope_ends_with_the_transaction_and_not_with_the_connection(
        self, api_sessions: Sessions, api_engine: AsyncEngine, alice: Person
    ):
        async with api_sessions() as session:
            await enter_scope(session, alice.scope)
            backend = await session.scalar(text("SELECT pg_backend_pid()"))
            await session.commit()

        async with api_engine.connect() as connection:
            assert await connection.scalar(text("SELECT pg_backend_pid()")) == backend
            assert await connection.scalar(text("SELECT count(*) FROM users")) == 0

    async def test_the_next_transaction_of_the_same_unit_of_work_has_it_again(
        self, as_alice: AsyncSession, alice: Person
    ):
        await as_alice.commit()

        assert set(await owners(as_alice, "user_notifications")) == {alice.user.id}

    async def test_a_savepoint_that_is_rolled_back_leaves_it(self, as_alice: AsyncSession, alice: Person):
        with pytest.raises(IntegrityError):
            async with as_alice.begin_nested():
                await as_alice.execute(
                    text("INSERT INTO executions (tenant_id, id) VALUES (:id, :id)"), {"id": alice.user.tenant_id}
                )

        assert set(await owners(as_alice, "users")) == {alice.user.tenant_id}

    @pytest.mark.parametrize(
        "statement",
        [
            "INSERT INTO users (tenant_id, id, external_id, name) VALUES (:tenant, :new, 'eve', 'Eve')",
            """INSERT INTO test_scenarios (tenant_id, id, name, labels, created_by, created_at)
               VALUES (:tenant, :new, 'Theirs', '{}', :user, now())""",
            """INSERT INTO executions (tenant_id, id, scenario_id, executed_by, executed_at)
               VALUES (:tenant, :new, :scenario, :user, now())""",
            """INSERT INTO events (tenant_id, id, event_type, scenario_id, actor_id, snapshot, occurred_at)
               VALUES (:tenant, :new, 'scenario.executed', :scenario, :user, '{}', now())""",
            """INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type)
               VALUES (:tenant, :new, :user, 'scenario.deleted')""",
            """INSERT INTO contact_points (tenant_id, id, user_id, channel, encrypted_address, masked_address)
               VALUES (:tenant, :new, :user, 'sms', '', '')""",
        ],
        ids=["users", "test_scenarios", "executions", "events", "notification_subscriptions", "contact_points"],
    )
    async def test_a_row_for_another_tenant_is_refused(self, as_alice: AsyncSession, mallory: Person, statement: str):
        values = {
            "tenant": mallory.user.tenant_id,
            "new": new_id(),
            "user": mallory.user.id,
            "scenario": mallory.scenario.id,
        }
        used = {name: value for name, value in values.items() if f":{name}" in statement}

        with pytest.raises(ProgrammingError, match="violates row-level security policy"):
            await as_alice.execute(text(statement), used)

    @pytest.mark.parametrize(
        "statement",
        [
            """INSERT INTO notification_subscriptions (tenant_id, id, user_id, event_type)
               VALUES (:tenant, :new, :user, 'scenario.deleted')""",
            """INSERT INTO contact_points (tenant_id, id, user_id, channel, encrypted_address, masked_address)
               VALUES (:tenant, :new, :user, 'sms', '', '')""",
        ],
        ids=["notification_subscriptions", "contact_points"],
    )
    async def test_a_row_for_another_user_is_refused(
        self, as_alice: AsyncSession, people: dict[str, Person], statement: str
    ):
        bob = people["bob"].user

        with pytest.raises(ProgrammingError, match="violates row-level security policy"):
            await as_alice.execute(text(statement), {"tenant": bob.tenant_id, "new": new_id(), "user": bob.id})

    @pytest.mark.parametrize(
        ("statement", "mine"),
        [
            ("UPDATE users SET name = 'Taken'", 2),
            ("UPDATE test_scenarios SET deleted_at = now()", 2),
            ("UPDATE notification_subscriptions SET level = 'all'", 1),
            ("DELETE FROM notification_subscriptions", 1),
            ("UPDATE user_notifications SET seen_at = now()", 1),
            ("UPDATE deliveries SET next_attempt_at = now()", 1),
            ("UPDATE contact_points SET verified_at = now()", 1),
            ("DELETE FROM contact_points", 1),
            ("UPDATE send_quotas SET sent_count = 0", 1),
        ],
    )
    async def test_a_change_without_predicate_changes_only_what_is_mine(
        self, as_alice: AsyncSession, statement: str, mine: int
    ):
        result: Any = await as_alice.execute(text(statement))

        assert result.rowcount == mine

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE users SET tenant_id = tenant_id",
            "UPDATE user_notifications SET user_id = user_id",
            "UPDATE events SET published_at = now()",
            "INSERT INTO user_notifications SELECT * FROM user_notifications",
            "DELETE FROM user_notifications",
            "DELETE FROM users",
            "DELETE FROM send_quotas",
            "UPDATE send_quotas SET user_id = user_id",
            "DELETE FROM events",
            "UPDATE events SET dead_lettered_at = NULL",
            "INSERT INTO deliveries SELECT * FROM deliveries",
            "UPDATE deliveries SET channel = 'sms'",
            "DELETE FROM deliveries",
            "UPDATE delivery_attempts SET result = 'delivered'",
            "SELECT name FROM tenants",
            "SELECT * FROM api_key_audit_entries",
            "UPDATE api_keys SET scopes = '{users:write}'",
            "UPDATE api_keys SET revoked_at = NULL",
            "INSERT INTO api_keys SELECT * FROM api_keys",
            "UPDATE event_types SET mandatory = true",
            "TRUNCATE executions",
            "CREATE TABLE mine (id integer)",
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
            f"SET LOCAL ROLE {roles.WORKER}",
            f"SET LOCAL ROLE {roles.OPERATOR}",
        ],
    )
    async def test_what_it_never_does_it_may_not_do(self, as_alice: AsyncSession, statement: str):
        with pytest.raises(DBAPIError, match=r"permission denied|must be owner"):
            await as_alice.execute(text(statement))

    async def test_an_api_key_is_seen_by_whoever_names_its_prefix(self, api_sessions: Sessions, mallory: Person):
        async with open_unit_of_work(api_sessions) as work:
            await show_api_key(work.session, mallory.key.prefix)
            assert await owners(work.session, "api_keys") == [mallory.user.tenant_id]
            await work.session.commit()
            assert await owners(work.session, "api_keys") == []

    async def test_naming_a_prefix_does_not_let_it_change_the_key(self, api_sessions: Sessions, alice: Person):
        async with open_unit_of_work(api_sessions) as work:
            await show_api_key(work.session, alice.key.prefix)
            result: Any = await work.session.execute(text("UPDATE api_keys SET last_used_at = now()"))

        assert result.rowcount == 0

    @pytest.mark.parametrize("table", LOG_TABLES)
    async def test_the_log_shows_a_person_their_own_and_a_program_all_of_its_tenant(
        self, api_sessions: Sessions, people: dict[str, Person], table: str
    ):
        column = "id" if table == "deliveries" else "delivery_id"
        query = text(f"SELECT {column} FROM {table}")  # noqa: S608 - a table of ours
        alice, bob = people["alice"], people["bob"]

        async with api_sessions() as session:
            await enter_scope(session, alice.scope)
            assert set(await session.scalars(query)) == {alice.delivery.id}
            await enter_scope(session, Scope(alice.user.tenant_id, alice.key.id))
            assert set(await session.scalars(query)) == {alice.delivery.id, bob.delivery.id}

    async def test_the_key_of_another_tenant_makes_nobody_a_program(
        self, api_sessions: Sessions, alice: Person, mallory: Person
    ):
        async with api_sessions() as session:
            await enter_scope(session, Scope(alice.user.tenant_id, mallory.key.id))
            assert await owners(session, "deliveries") == []

    async def test_a_reference_across_tenants_is_refused(self, as_alice: AsyncSession, alice: Person, mallory: Person):
        statement = text("""
            INSERT INTO executions (tenant_id, id, scenario_id, executed_by, executed_at)
            VALUES (:tenant, :new, :scenario, :user, now())
        """)
        values = {"tenant": alice.user.tenant_id, "new": new_id(), "user": alice.user.id}

        with pytest.raises(IntegrityError, match="fk_executions_tenant_id_scenario_id"):
            await as_alice.execute(statement, {**values, "scenario": mallory.scenario.id})


class TestForeignKeys:
    """The first wall's foundation: not even a superuser connects rows of two tenants."""

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE test_scenarios SET created_by = :user WHERE id = :scenario",
            "UPDATE events SET actor_id = :user WHERE scenario_id = :scenario",
            "UPDATE executions SET executed_by = :user WHERE scenario_id = :scenario",
            "UPDATE user_notifications SET user_id = :user WHERE event_id = :event",
            """INSERT INTO notification_subscriptions (tenant_id, id, user_id, scenario_id)
               SELECT tenant_id, gen_random_uuid(), :user, id FROM test_scenarios WHERE id = :scenario""",
        ],
    )
    async def test_refuse_to_connect_two_tenants(
        self, engine: AsyncEngine, alice: Person, mallory: Person, statement: str
    ):
        values = {"user": mallory.user.id, "scenario": alice.scenario.id, "event": alice.event.id}
        used = {name: value for name, value in values.items() if f":{name}" in statement}

        with pytest.raises(IntegrityError, match="foreign key"):
            async with engine.begin() as connection:
                await connection.execute(text(statement), used)


class TestWorker:
    @pytest.mark.parametrize(
        "table", ["events", "idempotency_keys", "notification_subscriptions", "user_notifications", "users"]
    )
    @pytest.mark.usefixtures("people")
    async def test_it_sees_all_tenants(self, worker_engine: AsyncEngine, table: str):
        async with worker_engine.connect() as connection:
            count = await connection.scalar(text(f"SELECT count(tenant_id) FROM {table}"))  # noqa: S608 - as above

        assert count == 3

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT email FROM users",
            "SELECT * FROM test_scenarios",
            "SELECT * FROM executions",
            "SELECT * FROM tenants",
            "SELECT * FROM api_keys",
            "SELECT body FROM idempotency_keys",
            "UPDATE user_notifications SET read_at = now()",
            "DELETE FROM user_notifications",
            "INSERT INTO events SELECT * FROM events",
            "UPDATE events SET snapshot = '{}'",
            "DELETE FROM notification_subscriptions",
            f"SET LOCAL ROLE {roles.API}",
            f"SET LOCAL ROLE {roles.RELAY}",
        ],
    )
    async def test_what_it_never_does_it_may_not_do(self, worker_engine: AsyncEngine, statement: str):
        async with worker_engine.connect() as connection:
            with pytest.raises(DBAPIError, match="permission denied"):
                await connection.execute(text(statement))


class TestRelay:
    @pytest.fixture
    async def relay(self, api_engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with api_engine.connect() as connection:
            await connection.execute(roles.BECOME_RELAY)
            yield connection

    @pytest.mark.usefixtures("people")
    async def test_it_sees_the_outbox_of_all_tenants(self, relay: AsyncConnection):
        assert await relay.scalar(text("SELECT count(id) FROM events WHERE published_at IS NULL")) == 3

    async def test_it_marks_what_is_unpublished_and_leaves_the_rest(
        self, relay: AsyncConnection, sessions: Sessions, alice: Person
    ):
        async with sessions.begin() as session:
            (
                await session.get_one(Event, (alice.user.tenant_id, alice.event.id))
            ).published_at = alice.event.occurred_at

        assert (await relay.execute(text("UPDATE events SET published_at = now()"))).rowcount == 2

    async def test_it_brings_back_the_dead_letters_of_the_tenant_that_was_entered(
        self, relay: AsyncConnection, sessions: Sessions, people: dict[str, Person]
    ):
        async with sessions.begin() as session:
            await session.execute(text("UPDATE events SET published_at = now(), dead_lettered_at = now()"))
        bring_back = text("UPDATE events SET published_at = NULL, dead_lettered_at = NULL, dead_letter_reason = NULL")

        assert (await relay.execute(bring_back)).rowcount == 0
        entered = {"tenant_id": str(people["mallory"].user.tenant_id)}
        await relay.execute(text("SELECT set_config('app.tenant_id', :tenant_id, true)"), entered)
        assert (await relay.execute(bring_back)).rowcount == 1

    async def test_it_does_not_publish_again_what_is_no_dead_letter(
        self, relay: AsyncConnection, sessions: Sessions, alice: Person
    ):
        async with sessions.begin() as session:
            await session.execute(text("UPDATE events SET published_at = now()"))
        entered = {"tenant_id": str(alice.user.tenant_id)}
        await relay.execute(text("SELECT set_config('app.tenant_id', :tenant_id, true)"), entered)

        assert (await relay.execute(text("UPDATE events SET published_at = NULL"))).rowcount == 0

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT snapshot FROM events",
            "SELECT dead_letter_reason FROM events",
            "SELECT actor_id FROM events",
            "UPDATE events SET fanned_out_at = now()",
            "INSERT INTO events SELECT * FROM events",
            "DELETE FROM events",
            "SELECT * FROM users",
            "SELECT * FROM user_notifications",
        ],
    )
    async def test_it_may_do_nothing_else(self, relay: AsyncConnection, statement: str):
        with pytest.raises(DBAPIError, match="permission denied"):
            await relay.execute(text(statement))

    async def test_the_api_has_none_of_its_rights_unless_it_says_so(self, api_engine: AsyncEngine, alice: Person):
        async with api_engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(id) FROM events")) == 0
            with pytest.raises(DBAPIError, match="permission denied"):
                await connection.execute(
                    text("UPDATE events SET published_at = now() WHERE id = :id"), {"id": alice.event.id}
                )

    async def test_it_is_the_api_again_after_the_transaction(self, relay: AsyncConnection):
        await relay.commit()

        assert await relay.scalar(text("SELECT current_user")) == "api"


class TestOperator:
    @pytest.fixture
    async def operator(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with engine.connect() as connection:
            await connection.execute(roles.BECOME_OPERATOR)
            yield connection

    @pytest.mark.usefixtures("people")
    async def test_it_reencrypts_what_all_tenants_have_at_rest(self, operator: AsyncConnection):
        statement = text(
            "UPDATE contact_points SET encrypted_address = encrypted_address || '', encrypted_secrets = ''"
        )

        assert (await operator.execute(statement)).rowcount == 3

    @pytest.mark.parametrize(
        "statement",
        [
            "SELECT masked_address FROM contact_points",
            "UPDATE contact_points SET verified_at = now()",
            "UPDATE contact_points SET channel = channel",
            "DELETE FROM contact_points",
            "SELECT * FROM send_quotas",
        ],
    )
    async def test_of_contact_points_it_may_do_nothing_else(self, operator: AsyncConnection, statement: str):
        with pytest.raises(DBAPIError, match="permission denied"):
            await operator.execute(text(statement))


class TestOwner:
    """The login that migrates: no superuser, as in production."""

    @pytest.fixture
    async def owner(self, postgres: EmbeddedPostgres, engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
        async with engine.begin() as connection:
            await connection.execute(text("CREATE ROLE migrator LOGIN CREATEROLE"))
            for role in (roles.API, roles.WORKER, roles.RELAY, roles.OPERATOR):
                await connection.execute(text(f"GRANT {role} TO migrator WITH ADMIN TRUE, INHERIT FALSE, SET FALSE"))
        postgres.create_database("owned")
        async with engine.begin() as connection:
            await connection.execute(text("ALTER DATABASE owned OWNER TO migrator"))
        owner = create_engine(database_settings(postgres.dsn("owned", user="migrator")), application_name="tests")
        yield owner
        await owner.dispose()
        postgres.drop_database("owned")
        async with engine.begin() as connection:
            await connection.execute(text("DROP ROLE migrator"))

    async def test_it_migrates_and_grants_and_is_subject_to_the_policies(self, owner: AsyncEngine):
        await migrate(owner)
        await grant_roles(owner, Login("api", roles.API), Login("worker", roles.WORKER))
        tenant_id = new_id()
        async with owner.begin() as connection:
            await connection.execute(
                text("INSERT INTO tenants (id, slug, name) VALUES (:id, 'demo', 'Demo')"), {"id": tenant_id}
            )
            await connection.execute(text("SELECT set_config('app.tenant_id', :id, true)"), {"id": str(tenant_id)})
            await connection.execute(
                text("INSERT INTO users (tenant_id, id, external_id, name) VALUES (:id, :id, 'alice', 'Alice')"),
                {"id": tenant_id},
            )

        async with owner.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM users")) == 0
            await connection.execute(roles.BECOME_OPERATOR)
            assert await connection.scalar(text("SELECT count(id) FROM users")) == 1

    async def test_foreign_keys_are_checked_beyond_what_the_owner_sees(self, owner: AsyncEngine):
        await migrate(owner)
        tenant_id = new_id()
        async with owner.begin() as connection:
            await connection.execute(
                text("INSERT INTO tenants (id, slug, name) VALUES (:id, 'demo', 'Demo')"), {"id": tenant_id}
            )
            await connection.execute(text("SELECT set_config('app.tenant_id', :id, true)"), {"id": str(tenant_id)})
            await connection.execute(
                text("INSERT INTO users (tenant_id, id, external_id, name) VALUES (:id, :id, 'alice', 'Alice')"),
                {"id": tenant_id},
            )

        with pytest.raises(IntegrityError, match="fk_users_tenant_id"):
            async with owner.begin() as connection:
                await connection.execute(text("DELETE FROM tenants"))


class TestMigration:
    async def test_several_databases_of_a_new_cluster_migrate_side_by_side(self):
        with (
            tempfile.TemporaryDirectory(prefix="postgres-") as directory,
            EmbeddedPostgres(Path(directory), durable=False) as server,
        ):
            urls = [server.dsn("postgres"), server.dsn("template1")]
            command = [sys.executable, "-m", "alembic", "upgrade", "head"]
            migrations = [
                await asyncio.create_subprocess_exec(*command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url})
                for url in urls
            ]

            assert [await migration.wait() for migration in migrations] == [0, 0]


class TestCost:
    async def test_the_settings_are_read_once_per_statement(self, as_alice: AsyncSession, alice: Person):
        connection = await as_alice.connection()
        seen: list[tuple[str, Any]] = []

        @sa.event.listens_for(as_alice.bind.sync_engine, "before_cursor_execute")  # type: ignore[union-attr]
        def remember(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            seen.append((statement, parameters))

        query = NotificationQuery()
        await repository.list_notifications(alice.user, as_alice, query, Window.of(query, alice.user))
        await repository.count_notifications(alice.user, as_alice)

        for statement, parameters in seen.copy():
            explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            answer = explained.scalar_one()
            [explanation] = json.loads(answer) if isinstance(answer, str) else answer
            nodes = list(walk(explanation["Plan"]))
            settings = [node for node in nodes if node.get("Parent Relationship") == "InitPlan"]
            assert settings
            assert all(node["Actual Loops"] <= 1 for node in settings)
            assert not [node for node in nodes if node.get("Parent Relationship") == "SubPlan"]
            assert "current_setting" not in " ".join(str(node.get("Filter")) for node in nodes)


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)
