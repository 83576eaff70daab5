-- From events to notifications and their deliveries: one chunk of the audience of each event of a batch.
--
-- Parameters: tenant_ids, ids and event_types name the events, side by side and each once; chunk_size is how many users
-- of one event are looked at; channels are those on offer, and expire_after is for how long a delivery is tried. Answers
-- with a row per event that was worked on. One that is missing there is unknown, of another type than its message says,
-- or was fanned out before.

WITH
-- The events, locked in the order of their ids: two workers that share some of them wait for each other instead of
-- deadlocking, and whoever waited sees how far the other came.
batch AS MATERIALIZED (
    SELECT event.tenant_id, event.id, event.event_type, event.scenario_id, event_type.mandatory,
           event_type.default_channels,
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
-- A muted user is in the chunk like everybody else, or the cursor could not move past a million mutes. The channels are
-- those of the subscription to the type, whichever rule wins: whoever has one is in the last list as far as the chunk
-- reaches.
chunk AS MATERIALIZED (
    SELECT batch.tenant_id, batch.id AS event_id, batch.silent_actor_id, audience.user_id, audience.precedence,
           audience.position, coalesce(audience.channels, batch.default_channels) AS channels
      FROM batch
     CROSS JOIN LATERAL (
               SELECT user_id, min(precedence) AS precedence, max(channels) AS channels,
                      row_number() OVER (ORDER BY user_id) AS position
                 FROM (
                          (SELECT id AS user_id, 1 AS precedence, CAST(NULL AS text[]) AS channels
                             FROM users
                            WHERE batch.mandatory AND tenant_id = batch.tenant_id AND id > batch.last_user_id
                            ORDER BY id
                            LIMIT :chunk_size)
                          UNION ALL
                          (SELECT user_id, CASE level WHEN 'muted' THEN 2 ELSE 3 END, NULL
                             FROM notification_subscriptions
                            WHERE tenant_id = batch.tenant_id AND scenario_id = batch.scenario_id
                              AND user_id > batch.last_user_id
                            ORDER BY user_id
                            LIMIT :chunk_size)
                          UNION ALL
                          (SELECT user_id, 4, channels
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
    RETURNING user_id, event_id
),

-- The ways of the new notifications to their readers. The inbox is none: the notification itself is there. One that cannot
-- be gone is written down all the same, with the reason. LIMIT keeps the look at a contact point a look at its index.
added AS (
    INSERT INTO deliveries (tenant_id, id, user_id, event_id, channel, endpoint, status, reason, expires_at, ended_at)
    SELECT tenant_id, new_id(), user_id, event_id, channel, endpoint,
           CASE WHEN obstacle IS NULL THEN 'pending' ELSE 'skipped' END, obstacle,
           now() + CAST(:expire_after AS interval), CASE WHEN obstacle IS NOT NULL THEN now() END
      FROM (
               SELECT tenant_id, user_id, event_id, unnest(array_remove(channels, 'in_app')) AS channel
                 FROM chunk
                WHERE channels <> '{in_app}'
           ) AS way
      JOIN inserted USING (user_id, event_id)
      LEFT JOIN LATERAL (
               SELECT endpoint, verified_at, disabled_at, TRUE AS found
                 FROM contact_points
                WHERE (tenant_id, user_id, channel) = (way.tenant_id, way.user_id, way.channel)
                LIMIT 1
           ) AS contact_point ON TRUE
     CROSS JOIN LATERAL (
               SELECT CASE
                      WHEN channel <> ALL (CAST(:channels AS text[])) THEN 'channel_disabled'
                      WHEN found IS NULL THEN 'no_address'
                      WHEN disabled_at IS NOT NULL THEN 'channel_disabled'
                      WHEN verified_at IS NULL THEN 'unverified_address'
                      END AS obstacle
           ) AS look
     ORDER BY user_id, event_id, channel
    RETURNING status
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
          (SELECT count(*) FROM inserted) AS notification_count,
          (SELECT count(*) FROM added WHERE status = 'pending') AS delivery_count
