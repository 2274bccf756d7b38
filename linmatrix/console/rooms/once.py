"""Forms that act once, however often they are sent: by a double click, by the browser's button to load a page again."""

import secrets

from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest

FIELD = "once"
"""The hidden field with a form's token."""

_KEY = "console_forms_used"

MAX_LENGTH = 40
"""Characters of a token that count: more than ours have. The session remembers what a browser sends."""

MAX_REMEMBERED = 100
"""Tokens of a session that are remembered; older forms would act again."""


def token() -> str:
    """A new form's."""
    return secrets.token_urlsafe(12)


def claim(request: HttpRequest, token: str) -> bool:
    """Whether this token is used for the first time in the session.

    The session's row is locked meanwhile, so that of two clicks at the same time, in two processes, one finds it used.
    Without a row, as with sessions that are kept elsewhere, every claim is the first.
    """
    with transaction.atomic():
        row = Session.objects.select_for_update().filter(pk=request.session.session_key).first()
        if row is None:
            return True
        session = row.get_decoded()
        used = session.get(_KEY, [])
        if token in used:
            return False
        session[_KEY] = [*used, token][-MAX_REMEMBERED:]
        row.session_data = Session.objects.encode(session)
        row.save(update_fields=["session_data"])
    return True
