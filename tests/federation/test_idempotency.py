"""Requests with a transaction id: processed once, their answers kept or made again (decisions 74, 75)."""

from contextlib import ExitStack
from datetime import timedelta

import pytest
from django.utils import timezone

from federation.errors import ApiError
from federation.idempotency import LEASE, MAX_TXN_ID_LENGTH, Transaction, once
from federation.models import InboundTransaction
from federation.responses import json_response
from linmatrix.limits import DEFAULTS
from linmatrix.protocol.completion import new_event
from rooms.hub import append_own, milliseconds
from rooms.models import Event
from tests.support.hosted import CREATOR, is_error, send_join
from tests.support.lines import in_thread

pytestmark = pytest.mark.django_db(transaction=True)

LARGE_STATE = 60_000


def fill_state(room, number: int) -> None:
    """State events that together are larger than what is kept."""
    now = timezone.now()
    events = [
        new_event(
            room_id=room.room_id,
            sender=CREATOR,
            type="org.example.large",
            content={"text": "x" * LARGE_STATE},
            origin_server_ts=milliseconds(now),
            state_key=str(index),
        )
        for index in range(number)
    ]
    append_own(room.room_id, events, now=now)


def test_a_large_answer_is_made_again_rather_than_kept(peer, hosted):
    fill_state(hosted, DEFAULTS.kept_answer_bytes // LARGE_STATE + 1)
    lpdu = peer.join(hosted.room_id)
    first = send_join(peer, lpdu)
    assert (first.status_code, len(first.content) > DEFAULTS.kept_answer_bytes) == (200, True)
    assert not InboundTransaction.objects.filter(txn_id="txn").exists()
    assert send_join(peer, lpdu).content == first.content
    assert Event.objects.filter(lpdu_id=lpdu.lpdu_id).count() == 1


def test_a_small_answer_is_kept(peer, hosted):
    fill_state(hosted, 1)
    answer = send_join(peer, peer.join(hosted.room_id))
    assert bytes(InboundTransaction.objects.get(txn_id="txn").response) == answer.content


@pytest.mark.parametrize(("errcode", "kept"), [("M_FORBIDDEN", True), ("M_BAD_STATE", False), ("M_NOT_JSON", False)])
def test_a_refusal_that_is_about_the_moment_is_not_kept(errcode, kept, tls_peer, peer, joined):
    tls_peer.endpoints["POST", "invite"] = lambda _request: (400, {"errcode": errcode, "error": "No."})
    target = tls_peer.user("user")
    lpdu = peer.lpdu(joined.room_id, type="m.room.member", content={"membership": "invite"}, state_key=target)
    answer = peer.request("POST", "/_matrix/federation/v3/invite/txn", {"event": lpdu.event})
    assert is_error(answer, 400, errcode)
    assert InboundTransaction.objects.filter(endpoint="invite", txn_id="txn").exists() is kept


def test_an_answer_that_only_mentions_such_a_code_is_kept(peer, hosted):
    lpdu = peer.lpdu(
        hosted.room_id,
        type="m.room.member",
        content={"membership": "join", "reason": "M_BAD_STATE"},
        state_key=peer.user("user"),
    )
    answer = send_join(peer, lpdu)
    assert b"M_BAD_STATE" in answer.content
    assert bytes(InboundTransaction.objects.get(txn_id="txn").response) == answer.content


@pytest.mark.parametrize(("length", "status"), [(MAX_TXN_ID_LENGTH, 200), (MAX_TXN_ID_LENGTH + 1, 400)])
def test_a_transaction_id_has_a_longest(length, status, peer, hosted):
    answer = send_join(peer, peer.join(hosted.room_id), "t" * length)
    assert answer.status_code == status
    assert InboundTransaction.objects.exists() is Event.objects.filter(sender=peer.user("user")).exists()
    assert InboundTransaction.objects.exists() is (status == 200)


def request(txn_id="a", body=b"{}", *, origin="part.example.org", stable=True, exclusive=True):
    return Transaction(origin, "send", txn_id, body, stable=stable, exclusive=exclusive)


def done():
    return json_response({"answer": "done"})


def never():
    raise AssertionError("it is not processed")


def refusal_of(sent):
    with pytest.raises(ApiError) as refused:
        once(sent, never)
    return refused.value.status, refused.value.errcode


def test_another_transaction_of_the_origin_has_to_wait_and_other_origins_have_not():
    def process():
        assert refusal_of(request("b")) == (400, "M_BAD_STATE")
        assert once(request("b", origin="third.example.org"), done).status_code == 200
        return done()

    assert once(request("a"), process).status_code == 200
    assert once(request("b"), done).status_code == 200


def test_the_first_answer_is_given_to_a_repetition_meanwhile_too():
    answers = []
    with ExitStack() as repetitions:

        def process():
            repetitions.enter_context(in_thread(lambda: answers.append(once(request(), never))))
            return done()

        first = once(request(), process)
    assert [answer.content for answer in (*answers, once(request(), never))] == [first.content] * 2


@pytest.mark.parametrize("stable", [True, False])
def test_an_id_with_another_body_is_another_request_on_the_unstable_path_only(stable):
    first = once(request(body=b"1", stable=stable), done)
    second = once(request(body=b"2", stable=stable), never if stable else lambda: json_response({"answer": "other"}))
    assert (second.content == first.content) is stable


@pytest.mark.parametrize("txn_id", ["a", "b"])
def test_a_process_that_died_holds_nobody_up_for_longer_than_its_lease(txn_id):
    now = timezone.now()
    held = InboundTransaction.objects.create(
        origin="part.example.org", endpoint="send", txn_id="a", body_sha256=b"", lease_until=now + LEASE,
        received_at=now,
    )  # fmt: skip
    assert refusal_of(request("c")) == (400, "M_BAD_STATE")
    InboundTransaction.objects.update(lease_until=now - timedelta(seconds=1))
    assert once(request(txn_id), done).status_code == 200
    assert not InboundTransaction.objects.filter(pk=held.pk).exists()


def test_a_fault_of_ours_is_forgotten_so_that_a_repetition_is_processed():
    with pytest.raises(AssertionError):
        once(request(), never)
    assert once(request(), done).status_code == 200
