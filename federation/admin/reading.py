"""Transactions in words: the events of a body, and what an answer refused. All of it is text from outside."""

from collections.abc import Mapping
from typing import Any

import orjson
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from federation.models import OutboundLpdu, OutboundTransaction
from rooms.models import Event
from rooms.wording import happened, shown

MAX_SHOWN = 50
"""Events of a transaction; the draft allows no more."""


def events_of(body: bytes | memoryview) -> SafeString | str:
    """The events of a transaction's body, a line each: who did what, and where."""
    pdus = _object(body).get("pdus")
    if not isinstance(pdus, list) or not pdus:
        return "no events"
    rows = [_told(pdu) for pdu in pdus[:MAX_SHOWN]]
    return format_html("<ol>{}</ol>", format_html_join("", "<li>{} {}<br><small>{}</small></li>", rows))


def _told(pdu: Any) -> tuple[str, str, str]:
    """The sender, what happened, and the room of an event object, of which nothing is taken for granted."""
    if not isinstance(pdu, dict):
        return "", "something that is no event", ""
    sender, room_id, kind, state_key = (pdu.get(name) for name in ("sender", "room_id", "type", "state_key"))
    text = {"sender": str(sender), "type": str(kind), "state_key": None if state_key is None else str(state_key)}
    try:
        what = happened(Event(json=orjson.dumps(pdu).decode(), **text))
    except (KeyError, TypeError, AttributeError, orjson.JSONEncodeError):
        what = f"sent {shown(kind, limit=60)}, which cannot be read"
    return shown(sender), what, shown(room_id)


def refusals_of(response: bytes | memoryview | None) -> SafeString | str:
    """What an answer says about single events (`failed_pdus`), or about the whole request."""
    answer = _object(response)
    failed = answer.get("failed_pdus")
    if isinstance(failed, dict) and failed:
        rows = [(shown(event_id), _reason(details)) for event_id, details in list(failed.items())[:MAX_SHOWN]]
        return format_html("<ul>{}</ul>", format_html_join("", "<li>{}: {}</li>", rows))
    if "errcode" in answer:
        return f"all: {shown(answer['errcode'])} {shown(answer.get('error', ''))}"
    return "none"


def refused_lpdus(row: OutboundTransaction) -> SafeString | str:
    """The LPDUs of a transaction that did not get their place in the line, with the reason."""
    bad = OutboundLpdu.objects.filter(pk__in=row.lpdus[:MAX_SHOWN]).exclude(reason="")
    rows = [
        (reverse("admin:federation_outboundlpdu_change", args=[quote(lpdu.pk)]), lpdu.lpdu_id, shown(lpdu.reason))
        for lpdu in bad.defer("json")
    ]
    return format_html_join("", '<div><a href="{}">{}</a>: {}</div>', rows) if rows else "none"


def _reason(details: object) -> str:
    return shown(details.get("error", "no reason given")) if isinstance(details, Mapping) else shown(details)


def _object(text: bytes | memoryview | None) -> dict[str, Any]:
    try:
        value = orjson.loads(bytes(text or b""))
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
