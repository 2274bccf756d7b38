"""Transactions in words: the events of a body, and what an answer refused. All of it is text from outside.

To-device messages are in bodies, too; what they say is for the devices that they are addressed to, and never shown.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import orjson
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from federation.models import OutboundLpdu, OutboundTransaction
from linmatrix.protocol.edus import DEVICE_LIST
from linmatrix.readonly_admin import pretty_json
from rooms.models import Event
from rooms.wording import happened, shown

MAX_SHOWN = 50
"""Events of a transaction; the draft allows no more."""


NOT_SHOWN = "not shown here"
"""Stands for the content of an EDU."""


def events_of(body: bytes | memoryview) -> SafeString | str:
    """The events of a transaction's body, a line each: who did what, and where; then how many EDUs there are."""
    content = _object(body)
    pdus, edus = content.get("pdus"), _edus(content)
    told: SafeString | str = "no events"
    if isinstance(pdus, list) and pdus:
        rows = [_told(pdu) for pdu in pdus[:MAX_SHOWN]]
        told = format_html("<ol>{}</ol>", format_html_join("", "<li>{} {}<br><small>{}</small></li>", rows))
    counted = Counter(shown(edu.get("type", "?"), limit=60) for edu in edus)
    lines = format_html_join("", "<div>{} EDUs {}</div>", [(number, kind) for kind, number in counted.items()])
    return format_html("{}{}", told, lines)


def body_of(body: bytes | memoryview) -> SafeString | str:
    """A transaction's body as JSON, without what to-device messages say."""
    content = _object(body)
    if not content:
        return "cannot be read"
    edus = [edu if edu.get("type") == DEVICE_LIST else {**edu, "content": NOT_SHOWN} for edu in _edus(content)]
    return pretty_json(orjson.dumps({**content, "edus": edus} if "edus" in content else content))


def _edus(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    edus = content.get("edus")
    return [edu if isinstance(edu, dict) else {} for edu in edus] if isinstance(edus, list) else []


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
