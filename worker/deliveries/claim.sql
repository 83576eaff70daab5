-- Takes deliveries of one channel that are due, and all that is needed to send them.
--
-- Parameters: channel; room, how many to take at most; rooms, a JSON object of how many each known server may get, and
-- first_room for any other; full, the servers that may get none; token and lease, of whoever claims; repeats_unknown and
-- retry_count, of the channel. Answers with a row per delivery claimed, or one without any, each with how many were
-- ended instead.

WITH RECURSIVE
-- The tenants with something pending, each with what is due first: a look at the index for each, however much they have.
tenant AS (
    (SELECT tenant_id, next_attempt_at
       FROM deliveries
      WHERE channel = :channel AND status = 'pending'
      ORDER BY tenant_id, next_attempt_at
      LIMIT 1)
    UNION ALL
    SELECT following.tenant_id, following.next_attempt_at
      FROM tenant
     CROSS JOIN LATERAL (
               SELECT tenant_id, next_attempt_at
                 FROM deliveries
                WHERE channel = :channel AND status = 'pending' AND tenant_id > tenant.tenant_id
                ORDER BY tenant_id, next_attempt_at
                LIMIT 1
           ) AS following
),

turn AS MATERIALIZED (
    SELECT tenant_id, CAST(ceil(CAST(:room AS numeric) / count(*) OVER ()) AS bigint) AS share
      FROM tenant
     WHERE next_attempt_at <= now()
),

-- The same share for each tenant, so that one with very many delays nobody else. What another worker holds is skipped.
due AS MATERIALIZED (
    SELECT delivery.*, row_number() OVER (PARTITION BY delivery.tenant_id ORDER BY delivery.next_attempt_at) AS place
      FROM turn
     CROSS JOIN LATERAL (
               SELECT tenant_id, id, user_id, event_id, about, created_at, next_attempt_at, expires_at, lease_token,
                      attempt_count, failure_count
                 FROM deliveries
                WHERE channel = :channel AND status = 'pending' AND tenant_id = turn.tenant_id
                  AND next_attempt_at <= now()
                  AND (endpoint IS NULL OR endpoint <> ALL (CAST(:full AS text[])) OR expires_at <= now())
                ORDER BY next_attempt_at
                LIMIT turn.share
                  FOR NO KEY UPDATE SKIP LOCKED
           ) AS delivery
),

-- Each with where it goes as of now, or why it goes nowhere any more. A token that is still there is the trace of a
-- worker that was lost while it sent.
looked AS MATERIALIZED (
    SELECT due.*, due.lease_token IS NOT NULL AS was_lost, contact_point.*,
           CASE
           WHEN due.expires_at <= now() THEN 'expired'
           WHEN contact_point_id IS NULL THEN 'no_address'
           WHEN disabled_at IS NOT NULL THEN 'channel_disabled'
           WHEN verified_at IS NULL THEN 'unverified_address'
           WHEN due.lease_token IS NOT NULL AND NOT :repeats_unknown THEN 'outcome_unknown'
           WHEN due.lease_token IS NOT NULL AND due.failure_count >= :retry_count THEN 'retries_exhausted'
           END AS obstacle
      FROM due
      LEFT JOIN LATERAL (
               SELECT id AS contact_point_id, endpoint, encrypted_address, encrypted_secrets, updated_at AS stated_at,
                      verified_at, disabled_at
                 FROM contact_points
                WHERE tenant_id = due.tenant_id AND user_id = due.user_id AND channel = :channel
                LIMIT 1
           ) AS contact_point ON TRUE
),

ready AS MATERIALIZED (
    SELECT tenant_id, id, user_id, event_id, about, created_at, was_lost, attempt_count, failure_count,
           contact_point_id, endpoint, encrypted_address, encrypted_secrets, stated_at
      FROM (
               SELECT looked.*, row_number() OVER (PARTITION BY endpoint ORDER BY next_attempt_at) AS place_at_endpoint
                 FROM looked
                WHERE obstacle IS NULL
           ) AS possible
     WHERE endpoint IS NULL
        OR place_at_endpoint <= coalesce(CAST(CAST(:rooms AS jsonb) ->> endpoint AS bigint), :first_room)
     ORDER BY place, next_attempt_at
     LIMIT :room
),

taken AS (
    UPDATE deliveries AS delivery
       SET lease_token = :token,
           next_attempt_at = now() + CAST(:lease AS interval),
           attempt_count = delivery.attempt_count + 1,
           failure_count = delivery.failure_count + CAST(ready.was_lost AS integer)
      FROM ready
     WHERE (delivery.tenant_id, delivery.id) = (ready.tenant_id, ready.id)
    RETURNING delivery.tenant_id, delivery.id, delivery.attempt_count
),

ended AS (
    UPDATE deliveries AS delivery
       SET status = CASE obstacle
                    WHEN 'outcome_unknown' THEN 'parked'
                    WHEN 'expired' THEN 'failed'
                    WHEN 'retries_exhausted' THEN 'failed'
                    ELSE 'skipped'
                    END,
           reason = obstacle,
           ended_at = now(),
           lease_token = NULL
      FROM looked
     WHERE obstacle IS NOT NULL AND (delivery.tenant_id, delivery.id) = (looked.tenant_id, looked.id)
    RETURNING delivery.tenant_id, delivery.id, looked.attempt_count, looked.was_lost
),

lost AS (
    UPDATE delivery_attempts AS attempt
       SET ended_at = now(), result = 'outcome_unknown', detail = 'The worker was lost while it sent this.'
      FROM (
               SELECT tenant_id, id, attempt_count FROM ready WHERE was_lost
                UNION ALL
               SELECT tenant_id, id, attempt_count FROM ended WHERE was_lost
           ) AS last
     WHERE (attempt.tenant_id, attempt.delivery_id, attempt.number) = (last.tenant_id, last.id, last.attempt_count)
       AND attempt.ended_at IS NULL
),

-- Written before anything is sent: whatever happens then has left a trace.
begun AS (
    INSERT INTO delivery_attempts (tenant_id, delivery_id, number, started_at)
    SELECT tenant_id, id, attempt_count, clock_timestamp() FROM taken
)

SELECT (SELECT count(*) FROM ended) AS ended_count,
       ready.tenant_id, ready.id, ready.attempt_count + 1 AS number,
       ready.failure_count + CAST(ready.was_lost AS integer) AS failure_count,
       ready.about, disabled.masked_address, ready.created_at, ready.contact_point_id, ready.endpoint,
       ready.encrypted_address, ready.encrypted_secrets, ready.stated_at, event.*, reader.*
  FROM (SELECT 1) AS always
  LEFT JOIN ready ON TRUE
  LEFT JOIN LATERAL (
           SELECT events.id AS event_id, event_type, scenario_id, snapshot, occurred_at, mandatory
             FROM events JOIN event_types ON event_types.name = event_type
            WHERE (tenant_id, id) = (ready.tenant_id, ready.event_id)
            LIMIT 1
       ) AS event ON TRUE
  LEFT JOIN LATERAL (
           SELECT id AS user_id, locale, time_zone
             FROM users
            WHERE (tenant_id, id) = (ready.tenant_id, ready.user_id)
            LIMIT 1
       ) AS reader ON TRUE
  LEFT JOIN LATERAL (
           SELECT masked_address
             FROM contact_points
            WHERE tenant_id = ready.tenant_id AND user_id = ready.user_id AND channel = ready.about
            LIMIT 1
       ) AS disabled ON TRUE
