-- A database as years of use would leave it: for measuring the console's lists (bench/console.py).
--
-- The names with a colon are numbers that are filled in: how many events, rooms and destinations there are. No rule has
-- looked at what this makes, and no signature is in it. Ids have the form of real ones and are spread as those are;
-- about one row in a hundred is what operators look for, and one room and one server have a large share of everything.
-- A line with nothing but ; ends a statement.

INSERT INTO rooms_room (room_id, version, role, hub_server, head_position, head_event_id, blocked, created_at)
    SELECT '!' || md5((n % :rooms)::text) || ':hub.example.org', 'I.1', CASE WHEN n % 3 = 0 THEN 'hub' ELSE 'participant' END,
    CASE WHEN n % 3 = 0 THEN 'hub.example.org' ELSE 'peer' || (n % :destinations) || '.example.org' END, 1000000, '$head', n % 1000 = 999,
    now() - n * interval '5 minutes'
    FROM generate_series(0, :rooms - 1) n
;

INSERT INTO rooms_event (event_id, room_id, position, lpdu_id, type, state_key, sender, origin_server_ts, json,
    verdict, reason, received_at)
    SELECT '$' || md5('e' || n), CASE WHEN n % 10 = 9 THEN '!' || md5('0') || ':hub.example.org' ELSE '!' || md5((n % :rooms)::text) || ':hub.example.org' END, 10 + n, '$' || md5('l' || n),
    CASE WHEN n < :rooms THEN 'm.room.name' WHEN n < 2 * :rooms THEN 'm.room.create'
    WHEN n < 3 * :rooms THEN 'm.room.member' ELSE 'm.room.message' END,
    CASE WHEN n < 2 * :rooms THEN '' WHEN n < 3 * :rooms THEN '@user' || n || ':hub.example.org' END,
    '@user' || (n % 1000) || ':hub.example.org', 1700000000000 + n * 1000,
    '{"content":{"body":"' || repeat('x', 400) || '","membership":"join","msgtype":"m.text","name":"Room ' || n
    || '"},"type":"m.room.message"}',
    CASE WHEN n % 1000 = 500 THEN 'rejected' WHEN n % 1000 = 501 THEN 'soft-failed' ELSE 'accepted' END, '',
    now() - (:events - n) * interval '1 second'
    FROM generate_series(0, :events - 1) n
;

INSERT INTO rooms_stateentry (room_id, type, state_key, event_id, position, replaced_at)
    SELECT '!' || md5((n % :rooms)::text) || ':hub.example.org', CASE WHEN n < :rooms THEN 'm.room.name' WHEN n < 2 * :rooms THEN 'm.room.create'
    ELSE 'm.room.member' END,
    CASE WHEN n < 2 * :rooms THEN '' ELSE '@user' || n || ':peer' || (n % 100) || '.example.org' END,
    '$' || md5('e' || n), 10 + n, CASE WHEN n % 10 = 1 THEN 10 + n + 5 END
    FROM generate_series(0, :events - 1) n
;

INSERT INTO rooms_roomserver (room_id, server, joined_position, left_position, sent_position, joined_users)
    SELECT '!' || md5((n % :rooms)::text) || ':hub.example.org', CASE WHEN n % 4 = 0 THEN 'peer1.example.org' ELSE 'peer' || (n / 4 % :destinations) || '.example.org' END,
    n, CASE WHEN n % 20 = 19 THEN n + 10 END, CASE WHEN n % 20 = 19 THEN n + 10 ELSE 1000000 END,
    CASE WHEN n % 20 = 19 THEN 0 ELSE 1 END
    FROM generate_series(0, :events / 2 - 1) n ON CONFLICT DO NOTHING
;

INSERT INTO rooms_finding (room_id, server, kind, event_id, evidence, predecessor, created_at)
    SELECT '!' || md5((n % :rooms)::text) || ':hub.example.org', 'peer' || (n % :destinations) || '.example.org', CASE WHEN n % 1000 = 7 THEN 'gap' ELSE 'rejected' END, '$' || md5('f' || n),
    'not allowed' || chr(10) || '{"a":1}', '', now() - n * interval '1 minute'
    FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO rooms_localuser (localpart, display_name, deactivated, refuses_invites)
    SELECT 'user' || n, 'User ' || n, n % 100 = 0, n % 100 = 1 FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO rooms_pendinginvite (room_id, user_id, hub_server, room_version, event_id, json, stripped_state,
    received_at)
    SELECT '!' || md5('i' || n), '@user' || n || ':hub.example.org', 'peer' || (n % :destinations) || '.example.org', 'I.1', '$i' || n, '{}', '[]',
    now() - n * interval '1 minute'
    FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO rooms_gap (room_id, before_position, missing_event_id, next_attempt, failures, last_error)
    SELECT '!' || md5((n % :rooms)::text) || ':hub.example.org', 10, '$x', now() + n * interval '1 second', n % 5, '' FROM generate_series(0, :rooms / 10 - 1) n
;

INSERT INTO federation_destination (server, pending, failures, failing_since, last_error, lease_holder, turn,
    single_events, timeline_state, paused_reason)
    SELECT 'peer' || n || '.example.org', n % 10 = 0, CASE WHEN n % 10 = 0 THEN n % 7 + 1 ELSE 0 END,
    CASE WHEN n % 10 = 0 THEN now() - n * interval '1 minute' END, '', '', '', false, false, ''
    FROM generate_series(0, :destinations - 1) n
;

INSERT INTO federation_outboundtransaction (destination_id, txn_id, path, body, cursors, lpdus, events, attempts,
    last_error, created_at, acked_at, refusals, lineage, branch, set_aside_at)
    SELECT 'peer' || (n % :destinations) || '.example.org', md5('t' || n), '/send', convert_to('{"pdus":["' || repeat('x', 2000) || '"]}', 'UTF8'), '[]', '[]',
    10, 1, '', now() - n * interval '1 second',
    CASE WHEN n >= :destinations AND n % 100 <> 50 THEN now() - n * interval '1 second' END, 0, '', '',
    CASE WHEN n >= :destinations AND n % 100 = 50 THEN now() - n * interval '1 second' END
    FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO federation_outboundlpdu (destination_id, lpdu_id, room_id, sender, json, status, reason, created_at)
    SELECT 'peer' || (n % :destinations) || '.example.org', '$' || md5('q' || n), '!' || md5((n % :rooms)::text) || ':hub.example.org', '@user' || (n % 100) || ':hub.example.org',
    '{"content":{}}', CASE WHEN n % 1000 = 5 THEN 'refused' WHEN n % 1000 = 6 THEN 'set-aside'
    WHEN n % 1000 = 7 THEN 'queued' ELSE 'sent' END, '', now() - n * interval '1 second'
    FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO federation_inboundtransaction (origin, endpoint, txn_id, body_sha256, lease_until, status, response,
    received_at)
    SELECT 'peer' || (n % :destinations) || '.example.org', CASE WHEN n % 100 = 3 THEN 'invite' ELSE 'send' END, md5('r' || n), decode(md5('b' || n), 'hex'),
    now(), CASE WHEN n % 1000 = 9 THEN 500 ELSE 200 END, convert_to('{}', 'UTF8'), now() - n * interval '1 second'
    FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO federation_pendingleave (room_id, user_id, hub_server, room_version, reason, created_at, next_attempt,
    failures, refusals, last_error)
    SELECT '!' || md5('p' || n), '@user' || n || ':hub.example.org', 'peer' || (n % :destinations) || '.example.org', 'I.1', '', now(),
    now() + n * interval '1 second', n % 3, 0, '' FROM generate_series(0, :destinations - 1) n
;

INSERT INTO keys_keyresponse (server, json, notary, fetched_at)
    SELECT 'peer' || (n % :destinations) || '.example.org', '{"verify_keys":{}}', CASE WHEN n % 10 = 3 THEN 'notary.example.org' ELSE '' END,
    now() - n * interval '1 minute' FROM generate_series(0, 2 * :destinations - 1) n
;

INSERT INTO keys_serverkey (server, key_id, public_key, notary, valid_until_ts, current, fetched_at, response_id)
    SELECT response.server, 'ed25519:' || response.id, decode(md5(response.id::text), 'hex'), response.notary,
    1900000000000, response.notary = '', response.fetched_at, response.id FROM keys_keyresponse response
;

INSERT INTO keys_keyfetch (server, asked_at, failures, last_error)
    SELECT 'peer' || n || '.example.org', now() - n * interval '1 second', n % 10, ''
    FROM generate_series(0, :destinations - 1) n
;

INSERT INTO keys_devicelist (user_id, stream_id)
    SELECT '@user' || n || ':hub.example.org', 2 FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO keys_device (user_id, device_id, json, display_name, stream_id, deleted, changed_at)
    SELECT '@user' || (n / 2) || ':hub.example.org', 'DEVICE' || n,
    CASE WHEN n % 50 = 7 THEN '' ELSE '{"algorithms":["m.olm.v1.curve25519-aes-sha2","m.megolm.v1.aes-sha2"],"device_id":"DEVICE'
    || n || '","keys":{"curve25519:DEVICE":"' || md5('c' || n) || '","ed25519:DEVICE":"' || md5('e' || n)
    || '"},"signatures":{"@user":{"ed25519:DEVICE":"' || repeat('x', 86) || '"}},"user_id":"@user"}' END,
    CASE WHEN n % 50 = 7 THEN '' ELSE 'Phone' END, n % 2 + 1, n % 50 = 7, now() - n * interval '1 minute'
    FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO keys_onetimekey (user_id, device_id, algorithm, key_id, json, identity, reusable, claimed_at, claimed_by)
    SELECT '@user' || (n / 10) || ':hub.example.org', 'DEVICE' || (n / 5), 'signed_curve25519', 'key' || n,
    CASE WHEN n % 5 = 0 THEN '' ELSE '{"key":"' || md5('o' || n) || '"}' END, decode(md5('o' || n), 'hex'), n % 5 = 4,
    CASE WHEN n % 5 = 0 THEN now() - n * interval '1 second' END,
    CASE WHEN n % 5 = 0 THEN 'peer' || (n % :destinations) || '.example.org' ELSE '' END
    FROM generate_series(0, :events - 1) n
;

INSERT INTO keys_remotedevicelist (user_id, revision, fetched_at, stale, changed_at, next_attempt, failures, last_error)
    SELECT '@user' || n || ':peer' || (n % :destinations) || '.example.org', 1, now() - n * interval '1 minute', n % 100 = 3,
    now() - n * interval '1 minute', CASE WHEN n % 100 = 3 THEN now() END, 0, '' FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO keys_remotedevice (user_id, device_id, json)
    SELECT '@user' || (n / 2) || ':peer' || (n / 2 % :destinations) || '.example.org', 'DEVICE' || n,
    '{"algorithms":["m.megolm.v1.aes-sha2"],"keys":{},"padding":"' || repeat('x', 300) || '"}'
    FROM generate_series(0, :events / 5 - 1) n
;

INSERT INTO federation_outboundedu (destination_id, sender, json, created_at)
    SELECT 'peer' || CASE WHEN n % 10 = 9 THEN 1 ELSE n % :destinations END || '.example.org', '@user' || (n % 1000) || ':hub.example.org',
    '{"content":"' || repeat('x', 400) || '"}', now() - n * interval '1 second' FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO federation_devicelistcursor (destination_id, user_id, told, wanted)
    SELECT 'peer' || (n % :destinations) || '.example.org', '@user' || (n / 2) || ':hub.example.org', CASE WHEN n % 100 = 3 THEN 0 ELSE 2 END, 2
    FROM generate_series(0, :events / 5 - 1) n ON CONFLICT DO NOTHING
;

INSERT INTO federation_todeviceinbox (user_id, device_id, last_position, waiting, waiting_bytes)
    SELECT user_id, device_id, CASE WHEN id = 1 THEN 20000 WHEN id % 20 = 1 THEN 30 ELSE 10 END,
    CASE WHEN id = 1 THEN 19990 WHEN id % 20 = 1 THEN 20 ELSE 0 END,
    CASE WHEN id = 1 THEN 19990 * 400 WHEN id % 20 = 1 THEN 20 * 400 ELSE 0 END
    FROM keys_device WHERE NOT deleted ORDER BY keys_device.id
;

INSERT INTO federation_todevicemessage (inbox_id, position, sender, type, json, origin, txn_id, source, received_at)
    SELECT inbox.id, position, '@user' || position || ':peer.example.org', 'm.room.encrypted', repeat('x', 400),
    'peer' || (position % 50) || '.example.org', 'txn', decode(md5(inbox.id::text || ' ' || position), 'hex'), now() - position * interval '1 second'
    FROM federation_todeviceinbox inbox
    CROSS JOIN LATERAL generate_series(inbox.last_position - inbox.waiting + 1, inbox.last_position) position
    WHERE inbox.waiting > 0
;

INSERT INTO django_admin_log (action_time, object_id, object_repr, action_flag, change_message, user_id)
    SELECT now() - n * interval '1 minute', n::text, 'row ' || n, n % 3 + 1, 'Changed.', (SELECT min(id) FROM auth_user)
    FROM generate_series(0, :events / 10 - 1) n
;

INSERT INTO console_minute (begins, accepted, redacted, soft_failed, rejected, delivered, findings, waiting, failing,
    oldest_seconds, half_within_ms, most_within_ms)
    SELECT date_trunc('minute', now()) - n * interval '1 minute', n % 90, 0, 0, 1, n % 80, 0, n % 5, n % 3, n % 60, 50, 900
    FROM generate_series(1, 20000) n
;
