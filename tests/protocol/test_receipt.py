"""The checks on receipt: schema, signatures, hashes; twins that differ in one thing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linmatrix.protocol import canonical_json, completion, hashes, receipt
from linmatrix.protocol.errors import BadSignature, Malformed, ProtocolError, TooLarge
from linmatrix.protocol.events import check_schema
from linmatrix.protocol.signing import SigningKey, VerifyKey

HUB, PART = "hub.example.org", "part.example.org"
TS = 1_700_000_000_000
KEY = {server: SigningKey.from_seed("ed25519:1", bytes([number]) * 32) for number, server in enumerate((HUB, PART), 1)}
OTHER = SigningKey.from_seed("ed25519:1", bytes(32))


def known(server, key=None, *, key_id="ed25519:1", valid_until_ts=TS + 1, expired_ts=None):
    public = (key or KEY[server]).public_key
    return {(server, key_id): [VerifyKey.from_bytes(public, valid_until_ts=valid_until_ts, expired_ts=expired_ts)]}


KEYS = known(HUB) | known(PART)


def event(sender=f"@user:{PART}", content=None, **fields):
    return (
        completion.new_event(
            room_id=f"!room:{HUB}",
            sender=sender,
            type="m.room.message",
            content={"body": "hello"} if content is None else content,
            origin_server_ts=TS,
        )
        | fields
    )


def receive_lpdu(received, *, keys):
    return receipt.receive_lpdu(check_schema(received), keys=keys)


def receive_pdu(received, *, hub, keys):
    return receipt.receive_pdu(check_schema(received), hub=hub, keys=keys)


LPDU = completion.make_lpdu(event(), hub_server=HUB, key=KEY[PART])


def pdu_of(lpdu=None, own=None):
    source = lpdu.event if lpdu else own
    return completion.complete(source, auth_events=["$a"], prev_event="$b", server=HUB, key=KEY[HUB], lpdu=lpdu)


PDU = pdu_of(LPDU)
OWN = pdu_of(own=event(f"@admin:{HUB}"))


def test_an_lpdu_is_taken_as_it_is():
    assert receive_lpdu(LPDU.event, keys=KEYS) == LPDU


def test_a_pdu_is_taken_as_it_is():
    assert receive_pdu(PDU.event, hub=HUB, keys=KEYS) == PDU
    assert receive_pdu(OWN.event, hub=HUB, keys=KEYS) == OWN


def test_the_hubs_own_event_may_name_its_hub_and_needs_one_signature():
    own = completion.make_lpdu(event(f"@admin:{HUB}"), hub_server=HUB, key=KEY[HUB])
    pdu = pdu_of(own)
    assert receive_pdu(pdu.event, hub=HUB, keys=known(HUB)).event_id == pdu.event_id


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({}, "no signature"),
        (known(PART, key_id="ed25519:2"), "no signature"),
        (known(PART, OTHER), "does not verify"),
        (known(PART, valid_until_ts=TS - 1), "no signature"),
        (known(PART, valid_until_ts=TS + 1, expired_ts=TS - 1), "no signature"),
    ],
    ids=["unknown", "another id", "another key", "no longer valid", "expired before"],
)
def test_a_key_must_be_known_and_valid_at_the_time_of_the_event(keys, reason):
    with pytest.raises(BadSignature, match=reason):
        receive_lpdu(LPDU.event, keys=keys)


@pytest.mark.parametrize(
    "keys",
    [
        known(PART, valid_until_ts=TS),
        known(PART, valid_until_ts=0, expired_ts=TS),
        {(PART, "ed25519:1"): known(PART, OTHER)[PART, "ed25519:1"] + KEYS[PART, "ed25519:1"]},
    ],
    ids=["valid until just then", "expired just then", "one of two keys of that id"],
)
def test_a_key_that_was_valid_then_is_enough(keys):
    assert receive_lpdu(LPDU.event, keys=keys) == LPDU


def test_a_second_signature_by_an_unknown_key_is_ignored_and_one_by_a_known_key_must_verify():
    both = {**LPDU.event, "signatures": {PART: {**LPDU.event["signatures"][PART], "ed25519:2": "A" * 86}}}
    assert receive_lpdu(both, keys=KEYS).lpdu_id == LPDU.lpdu_id
    with pytest.raises(BadSignature, match="ed25519:2 does not verify"):
        receive_lpdu(both, keys=KEYS | known(PART, OTHER, key_id="ed25519:2"))


@pytest.mark.parametrize("signature", ["", "!" * 86, "A" * 85, "A" * 88, 7, None, "A" * 86 + "\n"])
def test_a_signature_must_be_base64_of_64_bytes(signature):
    with pytest.raises(BadSignature):
        receive_lpdu({**LPDU.event, "signatures": {PART: {"ed25519:1": signature}}}, keys=KEYS)


def test_padding_is_allowed_in_signatures_and_hashes():
    padded = {
        **PDU.event,
        "signatures": {
            server: {key_id: value + "==" for key_id, value in by_key.items()}
            for server, by_key in PDU.event["signatures"].items()
        },
    }
    assert not receive_pdu(padded, hub=HUB, keys=KEYS).redacted


@pytest.mark.parametrize("server", [HUB, PART])
def test_both_the_senders_server_and_the_hub_must_have_signed_a_pdu(server):
    signatures = {name: by_key for name, by_key in PDU.event["signatures"].items() if name != server}
    with pytest.raises(BadSignature, match=server):
        receive_pdu({**PDU.event, "signatures": signatures}, hub=HUB, keys=KEYS)


def test_an_event_that_did_not_pass_the_hub_is_refused():
    with pytest.raises(BadSignature, match="did not come through the hub"):
        receive_pdu(PDU.event, hub="third.example.org", keys=KEYS)
    straight = pdu_of(own=event())
    with pytest.raises(BadSignature, match="did not come through the hub"):
        receive_pdu(straight.event, hub=HUB, keys=KEYS)


@pytest.mark.parametrize("change", [{"content": {"body": "other"}}, {"extra": 1}], ids=["content", "a new field"])
def test_what_only_the_content_hash_covers_is_redacted_when_it_changed(change):
    received = receive_pdu({**PDU.event, **change}, hub=HUB, keys=KEYS)
    assert received.redacted
    assert received.event_id == PDU.event_id
    assert received.event["content"] == {}
    assert "extra" not in received.event
    lpdu = receive_lpdu({**LPDU.event, **change}, keys=KEYS)
    assert (lpdu.redacted, lpdu.lpdu_id, lpdu.event["content"]) == (True, LPDU.lpdu_id, {})


@pytest.mark.parametrize(
    "field", ["room_id", "type", "sender", "origin_server_ts", "hub_server", "prev_events", "hashes"]
)
def test_what_the_signature_covers_cannot_be_changed(field):
    other = {
        "room_id": f"!other:{HUB}",
        "type": "m.room.other",
        "sender": f"@other:{PART}",
        "origin_server_ts": TS - 1,
        "hub_server": "third.example.org",
        "prev_events": ["$c"],
        "hashes": {**PDU.event["hashes"], "sha256": "A" * 43},
    }[field]
    with pytest.raises(BadSignature):
        receive_pdu({**PDU.event, field: other}, hub=HUB, keys=KEYS)


def test_unsigned_is_taken_off_and_other_unknown_fields_are_kept():
    extended = completion.make_lpdu(event(extra={"a": 1}), hub_server=HUB, key=KEY[PART])
    received = receive_lpdu({**extended.event, "unsigned": {"age": 1}}, keys=KEYS)
    assert received.event == extended.event
    assert pdu_of(received).event["extra"] == {"a": 1}


def test_a_foreign_event_id_is_taken_off_only_where_the_hash_does_not_cover_it():
    assert receive_pdu({**PDU.event, "event_id": "$x"}, hub=HUB, keys=KEYS) == PDU
    covered = pdu_of(own=event(f"@admin:{HUB}", event_id="$mine"))
    assert receive_pdu(covered.event, hub=HUB, keys=KEYS).event["event_id"] == "$mine"


def test_an_lpdu_is_not_a_pdu_nor_the_other_way_round():
    with pytest.raises(Malformed, match="not an LPDU"):
        receive_lpdu(PDU.event, keys=KEYS)
    with pytest.raises(Malformed, match="not a PDU"):
        receive_pdu(LPDU.event, hub=HUB, keys=KEYS)


def test_an_event_may_have_65536_bytes_and_not_one_more():
    def of_size(size):
        bare = completion.make_lpdu(event(content={"body": ""}), hub_server=HUB, key=KEY[PART])
        body = "x" * (size - len(canonical_json.dumps(bare.event)))
        signed = event(content={"body": body}, hub_server=HUB)
        signed["hashes"] = bare.event["hashes"]
        signed["signatures"] = {PART: {"ed25519:1": KEY[PART].sign(hashes.signed_bytes(signed))}}
        assert len(canonical_json.dumps(signed)) == size
        return signed

    receive_lpdu(of_size(65536), keys=KEYS)
    with pytest.raises(TooLarge):
        receive_lpdu(of_size(65537), keys=KEYS)


def test_an_invite_leaves_room_for_the_invitees_signature():
    def invite(extra):
        fields = {"type": "m.room.member", "state_key": "@bob:target.example.org"}
        content = {"membership": "invite", "reason": "x" * extra}
        return completion.make_lpdu(event(content=content, **fields), hub_server=HUB, key=KEY[PART])

    bare = len(canonical_json.dumps(invite(0).event))
    invite(65536 - 512 - bare)
    with pytest.raises(TooLarge):
        invite(65536 - 512 - bare + 1)


values: st.SearchStrategy = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([{}])
)


@given(st.sampled_from([*PDU.event]), values)
def test_no_change_of_a_field_leads_to_another_exception(field, value):
    for source, check in (
        (LPDU.event, lambda changed: receive_lpdu(changed, keys=KEYS)),
        (PDU.event, lambda changed: receive_pdu(changed, hub=HUB, keys=KEYS)),
    ):
        try:
            check({**source, field: value})
        except ProtocolError:
            continue


@given(st.recursive(values, lambda inner: st.dictionaries(st.sampled_from([*PDU.event]), inner), max_leaves=30))
def test_no_value_at_all_leads_to_another_exception(value):
    with pytest.raises(ProtocolError):
        receive_lpdu(value, keys=KEYS)
