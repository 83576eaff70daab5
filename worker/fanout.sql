-- From events to notifications: one chunk of the audience of each event of a batch.
--
-- Parameters: tenant_ids, ids and event_types name the events, side by side and each once; chunk_size is how many users
-- of one event are looked at. Answers with a row per event that was worked on. One that is missing there is unknown, of
-- another type than its message says, or was fanned out before.

WITH
-- The events, locked in the order of their ids: two workers that share some of them wait for each other instead of
-- deadlocking, and whoever waited sees how far the other came.
batch AS MATERIALIZED (
    SELECT event.tenant_id, event.id, event.event_type, event.scenario_id, event_type.mandatory,
           coalesce(event.fan_out_cursor, '00000000-0000-0000-0000-000000000000') AS last_user_id,
           CASE WHEN NOT actor.notify_self THEN actor.id END AS silent_actor_id
      FROM unnest(CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:event_types AS text[]))
           AS named (tenant_id, id, event_type)
      JOIN events AS event USING (tenant_id, id, event_type)
      JOIN event_types AS event_type ON event_type.name = event.event_type
      JOIN users AS actor ON (actor.tenant_id, actor.id) = (event.tenant_id, event.actor_id)
     WHERE event.fanned_out_at IS NULL
     ORDER BY event.id
       FOR NO KEY UPDATE OF event
),

-- The next users of each event whom any rule concerns, with the rule that wins. Each of the three lists is ordered by
-- an index and cut before they are merged: a chunk costs the same at the end of a million users as at its beginning.
-- A muted user is in the chunk like everybody else, or the cursor could not move past a million mutes.
chunk AS MATERIALIZED (
    SELECT batch.tenant_id, batch.id AS event_id, batch.silent_actor_id, audience.*
      FROM batch
     CROSS JOIN LATERAL (
               SELECT user_id, min(precedence) AS precedence, row_number() OVER (ORDER BY user_id) AS position
                 FROM (
                          (SELECT id AS user_id, 1 AS precedence
                             FROM users
                            WHERE batch.mandatory AND tenant_id = batch.tenant_id AND id > batch.last_user_id
                            ORDER BY id
                            LIMIT :chunk_size)
                          UNION ALL
                          (SELECT user_id, CASE level WHEN 'muted' THEN 2 ELSE 3 END
                             FROM notification_subscriptions
                            WHERE tenant_id = batch.tenant_id AND scenario_id = batch.scenario_id
                              AND user_id > batch.last_user_id
                            ORDER BY user_id
                            LIMIT :chunk_size)
                          UNION ALL
                          (SELECT user_id, 4
                             FROM notification_subscriptions
                            WHERE tenant_id = batch.tenant_id AND event_type = batch.event_type
                              AND user_id > batch.last_user_id
                            ORDER BY user_id
                            LIMIT :chunk_size)
                      ) AS rule
                GROUP BY user_id
                ORDER BY user_id
                LIMIT :chunk_size
           ) AS audience
),

-- The new notifications. Whoever has one already keeps it, which makes a second delivery of a message harmless. In the
-- order of the primary key, so that a user's rows share a page and no two workers can insert in each other's way.
inserted AS (
    INSERT INTO user_notifications (tenant_id, user_id, event_id, reason)
    SELECT tenant_id, user_id, event_id,
           CASE precedence WHEN 1 THEN 'mandatory' WHEN 3 THEN 'following' ELSE 'subscribed' END
      FROM chunk
     WHERE precedence <> 2 AND user_id IS DISTINCT FROM silent_actor_id
     ORDER BY user_id, event_id
        ON CONFLICT DO NOTHING
    RETURNING event_id
),

full_chunk AS MATERIALIZED (
    SELECT event_id, user_id AS last_user_id FROM chunk WHERE position = :chunk_size
)

-- How far each event has come: a full chunk leaves its last user as the cursor, any other was the last.
-- The message proves that the event was published, even if the relay did not get round to noting it; and that
-- somebody took it out of the dead letters, if it was there.
UPDATE events AS event
   SET fan_out_cursor = full_chunk.last_user_id,
       fanned_out_at = CASE WHEN full_chunk.last_user_id IS NULL THEN now() END,
       published_at = coalesce(event.published_at, now()),
       claimed_until = NULL,
       dead_lettered_at = NULL,
       dead_letter_reason = NULL
  FROM batch
  LEFT JOIN full_chunk ON full_chunk.event_id = batch.id
 WHERE (event.tenant_id, event.id) = (batch.tenant_id, batch.id)
RETURNING event.tenant_id, event.id, event.event_type, event.fanned_out_at IS NOT NULL AS complete,
          (SELECT count(*) FROM inserted) AS notification_count
