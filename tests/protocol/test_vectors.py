"""Hashes, ids and signatures come out byte for byte as another implementation made them."""

import json
from pathlib import Path

import pytest

from linmatrix.protocol import canonical_json, completion, hashes, receipt, request_auth
from linmatrix.protocol.encoding import decode_base64, encode_base64
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.events import Lpdu, check_schema
from linmatrix.protocol.hashes import event_id, lpdu_of
from linmatrix.protocol.signing import SigningKey, VerifyKey

VECTORS = Path(__file__).parent.parent / "vectors"


def read(name):
    """Read a vector as a peer that knows doubles only: one of its rooms has numbers that we refuse as input."""
    return json.loads((VECTORS / name).read_text(), parse_float=number, parse_int=number)


def number(literal):
    value = float(literal)
    return int(value) if value.is_integer() and abs(value) < 2**53 else canonical_json.JsonFloat(value)


LPDU_TO_PDU = read("lpdu-to-pdu.json")
ROOM = read("room-from-a-peer.json")
REQUESTS = read("x-matrix.json")
FOREVER = 2**53 - 1
UNSIGNED_FIELDS = ("signatures", "hashes")


def known_keys(public_keys):
    return {
        (server, key_id): [VerifyKey.from_bytes(decode_base64(public, length=32), valid_until_ts=FOREVER)]
        for server, by_id in public_keys.items()
        for key_id, public in by_id.items()
    }


def signing_key(server):
    return SigningKey.from_seed("ed25519:1", bytes.fromhex(LPDU_TO_PDU["keys"][f"{server} ed25519:1"]["seed_hex"]))


VECTOR_KEYS = known_keys(
    {name.split()[0]: {name.split()[1]: key["public"]} for name, key in LPDU_TO_PDU["keys"].items()}
)


def test_the_peers_numbers_beyond_the_safe_range_are_refused_as_input():
    with pytest.raises(Malformed, match="2\\^53-1"):
        canonical_json.loads((VECTORS / "room-from-a-peer.json").read_bytes())


def bare(event):
    return {key: value for key, value in event.items() if key not in (*UNSIGNED_FIELDS, "hub_server")}


def test_public_keys_follow_from_the_seeds():
    for name, key in LPDU_TO_PDU["keys"].items():
        assert encode_base64(signing_key(name.split()[0]).public_key) == key["public"]


def test_an_lpdu_is_hashed_signed_and_named_as_in_the_vector():
    made = completion.make_lpdu(
        bare(LPDU_TO_PDU["lpdu"]), hub_server="hub.example.org", key=signing_key("part.example.org")
    )
    assert made == Lpdu(LPDU_TO_PDU["lpdu"], LPDU_TO_PDU["lpdu_event_id"])


def test_the_pdu_of_an_lpdu_is_completed_as_in_the_vector():
    lpdu = receipt.receive_lpdu(check_schema(LPDU_TO_PDU["lpdu"]), keys=VECTOR_KEYS)
    pdu = completion.complete(
        lpdu.event,
        auth_events=["$a", "$b"],
        prev_event="$parent",
        server="hub.example.org",
        key=signing_key("hub.example.org"),
        lpdu=lpdu,
    )
    assert pdu.event == LPDU_TO_PDU["pdu"]
    assert pdu.event_id == LPDU_TO_PDU["pdu_event_id"]
    assert pdu.encoded == canonical_json.dumps(LPDU_TO_PDU["pdu"])


def test_the_invitees_signature_is_as_in_the_vector_and_leaves_the_id_alone():
    pdu = receipt.receive_pdu(check_schema(LPDU_TO_PDU["pdu"]), hub="hub.example.org", keys=VECTOR_KEYS)
    signed = completion.add_signature(pdu, server="target.example.org", key=signing_key("target.example.org"))
    assert signed.event["signatures"]["target.example.org"] == {"ed25519:1": LPDU_TO_PDU["target_signature"]}
    assert event_id(signed.event) == LPDU_TO_PDU["pdu_with_target_signature_event_id"]


def test_the_lpdu_id_is_found_again_in_the_pdu():
    assert event_id(lpdu_of(LPDU_TO_PDU["pdu"])) == LPDU_TO_PDU["lpdu_event_id"]


def test_a_content_hash_leaves_hashes_out_when_nothing_remains_in_them():
    create = next(item["pdu"] for item in ROOM["events"] if item["pdu"]["type"] == "m.room.create")
    assert encode_base64(hashes.pdu_content_hash(create)) == create["hashes"]["sha256"]
    assert (
        LPDU_TO_PDU["hub_create_hash_hashes_removed_eigen"]
        != LPDU_TO_PDU["hub_create_hash_draft_literal_empty_hashes_object"]
    )


def test_member_names_are_ordered_by_utf16_code_units():
    keys = [chr(int(code, 16)) for code in LPDU_TO_PDU["jcs_order"]["input_keys_hex"]]
    value = {key: number for number, key in enumerate(keys, start=1)}
    assert canonical_json.dumps(value) == LPDU_TO_PDU["jcs_order"]["jcs"].encode()
    assert canonical_json.dumps(value) != LPDU_TO_PDU["jcs_order"]["matrix"].encode()


@pytest.mark.parametrize("item", ROOM["events"], ids=lambda item: item["pdu"]["type"])
def test_every_event_of_a_room_made_by_a_peer_has_its_id_hashes_and_signatures(item):
    pdu = receipt.receive_pdu(check_schema(item["pdu"]), hub="localhost:3500", keys=known_keys(ROOM["public_keys"]))
    assert pdu.event_id == item["event_id"]
    assert not pdu.redacted
    assert pdu.event == item["pdu"]


@pytest.mark.parametrize("content", [{}, None], ids=["empty object", "absent"])
def test_a_request_without_a_body_is_signed_as_in_the_vector_in_both_forms(content):
    name = "xmatrix_get_content_empty_object" if content is not None else "xmatrix_get_content_absent"
    header = request_auth.authorization(
        **LPDU_TO_PDU["xmatrix_object"], content=content, key=signing_key("target.example.org")
    )
    assert f'sig="{LPDU_TO_PDU[name]}"' in header


@pytest.mark.parametrize("request_", REQUESTS["requests"], ids=lambda item: item["uri"][:60])
def test_every_request_signed_by_a_peer_verifies(request_):
    (credentials,) = request_auth.parse_authorization(request_["authorization"])
    forms = request_auth.covered_forms(
        credentials, method=request_["method"], uri=request_["uri"], content=request_["body"]
    )
    (key,) = known_keys(REQUESTS["public_keys"])[credentials.origin, credentials.key_id]
    assert any(key.verifies(form, credentials.signature) for form in forms)
