-- Writes down what came of attempts, many at once.
--
-- Parameters: columns of results, side by side, each delivery once; disable_after,
-- expire_after and channels, those on offer, the best way to tell a person first. A delivery whose lease another worker
-- has taken over keeps what that one makes of it. Answers with a row per delivery that was recorded.

WITH
result AS MATERIALIZED (
    SELECT *
      FROM unnest(
               CAST(:tenant_ids AS uuid[]), CAST(:ids AS uuid[]), CAST(:tokens AS uuid[]), CAST(:numbers AS integer[]),
               CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:waits AS interval[]),
               CAST(:failures AS integer[]), CAST(:results AS text[]), CAST(:details AS text[]),
               CAST(:providers AS text[]), CAST(:provider_ids AS text[]), CAST(:contact_point_ids AS uuid[]),
               CAST(:stated_ats AS timestamptz[]), CAST(:gone AS boolean[]), CAST(:blamed AS boolean[])
           ) AS result (
               tenant_id, id, token, number, status, reason, wait, failures, result, detail, provider, provider_id,
               contact_point_id, stated_at, gone, blamed
           )
),

recorded AS (
    UPDATE deliveries AS delivery
       SET status = result.status,
           reason = result.reason,
           next_attempt_at = CASE result.status
                             WHEN 'pending' THEN least(now() + result.wait, delivery.expires_at)
                             ELSE delivery.next_attempt_at
                             END,
           ended_at = CASE WHEN result.status <> 'pending' THEN now() END,
           lease_token = NULL,
           failure_count = delivery.failure_count + result.failures
      FROM result
     WHERE (delivery.tenant_id, delivery.id, delivery.lease_token) = (result.tenant_id, result.id, result.token)
       AND delivery.status = 'pending'
    RETURNING result.*, delivery.user_id, delivery.event_id
),

attempted AS (
    UPDATE delivery_attempts AS attempt
       SET ended_at = now(),
           result = recorded.result,
           detail = recorded.detail,
           provider = recorded.provider,
           provider_id = recorded.provider_id
      FROM recorded
     WHERE (attempt.tenant_id, attempt.delivery_id, attempt.number)
           = (recorded.tenant_id, recorded.id, recorded.number)
),

-- What all of this says about each contact point, unless its owner has changed it since: then it speaks of another
-- address. Locked in one order, because several workers may write about the same ones.
contact_point AS MATERIALIZED (
    SELECT kept.tenant_id, kept.id, kept.user_id, kept.channel, heard.last_result, heard.event_id,
           CASE
           WHEN heard.delivered THEN NULL
           WHEN heard.blamed THEN coalesce(kept.failing_since, now())
           ELSE kept.failing_since
           END AS failing_since,
           CASE
           WHEN kept.disabled_at IS NOT NULL THEN NULL
           WHEN heard.gone THEN 'gone'
           WHEN heard.blamed AND NOT heard.delivered AND kept.endpoint IS NOT NULL
                AND kept.failing_since <= now() - CAST(:disable_after AS interval) THEN 'dead'
           END AS verdict
      FROM (
               SELECT tenant_id, contact_point_id AS id, max(stated_at) AS stated_at, max(result) AS last_result,
                      bool_or(result = 'delivered') AS delivered, bool_or(gone) AS gone, bool_or(blamed) AS blamed,
                      (array_agg(event_id ORDER BY event_id DESC))[1] AS event_id
                 FROM recorded
                GROUP BY tenant_id, contact_point_id
           ) AS heard
      JOIN contact_points AS kept ON (kept.tenant_id, kept.id, kept.updated_at)
                                     = (heard.tenant_id, heard.id, heard.stated_at)
     ORDER BY kept.tenant_id, kept.id
       FOR NO KEY UPDATE OF kept
),

noted AS (
    UPDATE contact_points AS kept
       SET last_attempt_at = now(),
           last_result = contact_point.last_result,
           failing_since = contact_point.failing_since,
           disabled_at = CASE WHEN verdict IS NULL THEN kept.disabled_at ELSE now() END,
           disabled_reason = coalesce(verdict, kept.disabled_reason)
      FROM contact_point
     WHERE (kept.tenant_id, kept.id) = (contact_point.tenant_id, contact_point.id)
),

-- Word to the owner of an address that gets nothing any more, by the best other way.
word AS (
    INSERT INTO deliveries (tenant_id, id, user_id, event_id, channel, about, endpoint, status, expires_at)
    SELECT contact_point.tenant_id, new_id(), contact_point.user_id, event_id, other.channel, contact_point.channel,
           other.endpoint, 'pending', now() + CAST(:expire_after AS interval)
      FROM contact_point
     CROSS JOIN LATERAL (
               SELECT channel, endpoint
                 FROM contact_points
                WHERE tenant_id = contact_point.tenant_id AND user_id = contact_point.user_id
                  AND channel <> contact_point.channel AND channel = ANY (CAST(:channels AS text[]))
                  AND verified_at IS NOT NULL AND disabled_at IS NULL
                ORDER BY array_position(CAST(:channels AS text[]), channel)
                LIMIT 1
           ) AS other
     WHERE verdict IS NOT NULL
        ON CONFLICT DO NOTHING
    RETURNING id
)

SELECT id, (SELECT count(*) FROM contact_point WHERE verdict IS NOT NULL) AS disabled_count,
       (SELECT count(*) FROM word) AS word_count
  FROM recorded
