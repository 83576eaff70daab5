// What a program does that uses the generated TypeScript SDK; compiled strictly against it by `make sdk`.
//
// Takes the URL of the service and the tokens of two people of one tenant, and prints what it saw as JSON.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Client, createClient } from '../../../build/sdk/typescript/client/index.js';
import {
  createScenario,
  enableEventType,
  executeScenario,
  getNotification,
  type ListNotificationsData,
  listNotifications,
  markNotificationRead,
  type Notification,
  type NotificationPage,
  type Problem,
} from '../../../build/sdk/typescript/index.js';

const EXECUTIONS = 5;
const PAGE = 2;
const DEADLINE_MS = 30_000;

async function main(baseUrl: string, alicesToken: string, bobsToken: string): Promise<void> {
  const alice = createClient({ baseUrl, auth: alicesToken });
  const bob = createClient({ baseUrl, auth: bobsToken });

  const { data: subscription } = await enableEventType({
    client: bob,
    path: { event_type: 'scenario.executed' },
    body: {},
    throwOnError: true,
  });

  const { data: scenario } = await createScenario({
    client: alice,
    body: { name: 'TypeScript SDK', labels: ['sdk'] },
    throwOnError: true,
  });
  for (let execution = 0; execution < EXECUTIONS; execution += 1) {
    await executeScenario({
      client: alice,
      path: { scenario_id: scenario.id },
      body: { outcome: 'failed', duration_ms: 1200 },
      throwOnError: true,
    });
  }

  const pages = await awaitPages(bob, scenario.id);
  const newest = pages[0]?.[0];
  assert.ok(newest);
  const path = { notification_id: newest.id };
  const { data: state } = await markNotificationRead({ client: bob, path, throwOnError: true });
  const { data: again } = await getNotification({ client: bob, path, throwOnError: true });

  const { error: refused } = await createScenario({ client: alice, body: { name: '' } });
  const { error: missing } = await getNotification({ client: bob, path: { notification_id: randomUUID() } });
  const stranger = createClient({ baseUrl, auth: `${bobsToken}x` });
  const { error: unknown } = await getNotification({ client: stranger, path });
  assert.ok(refused?.errors && missing && unknown);
  const problems: Problem[] = [refused, missing, unknown];

  const seen = {
    subscribed: [subscription.event_type, subscription.enabled],
    pages: pages.map((page) => page.length),
    told: newest.title,
    read: [state.notification.read_at === again.read_at, again.read_at !== null],
    problems: problems.map(({ status, code }) => [status, code]),
    pointers: refused.errors.map(({ pointer }) => pointer),
  };
  process.stdout.write(JSON.stringify(seen));
}

/** Returns the pages of the inbox once all executions are in it. */
async function awaitPages(bob: Client, scenarioId: string): Promise<Notification[][]> {
  const deadline = Date.now() + DEADLINE_MS;
  for (;;) {
    const pages: Notification[][] = [];
    for await (const page of listPages(bob, scenarioId)) {
      pages.push(page);
    }
    if (pages.flat().length === EXECUTIONS) {
      return pages;
    }
    assert.ok(Date.now() < deadline, 'Nobody was told in time.');
    await sleep(100);
  }
}

/** Yields one page after the other. */
async function* listPages(bob: Client, scenarioId: string): AsyncGenerator<Notification[]> {
  let cursor: string | null = null;
  do {
    const query: ListNotificationsData['query'] = { scenario_id: scenarioId, limit: PAGE, ...(cursor && { cursor }) };
    const page: NotificationPage = (await listNotifications({ client: bob, query, throwOnError: true })).data;
    yield page.data;
    cursor = page.next_cursor;
  } while (cursor);
}

const [url, alicesToken, bobsToken] = process.argv.slice(2);
assert.ok(url && alicesToken && bobsToken);
await main(url, alicesToken, bobsToken);
