"""`PUT send/:txnId` (draft, "Sending Events"; decisions 74 to 83, 107)."""

from functools import partial
from urllib.parse import unquote

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from federation.edus.receiving import receive_edus
from federation.inbound import lists_of, receive_transaction
from federation.responses import json_response
from federation.views.base import FederationView


class Send(FederationView):
    """Takes in LPDUs for rooms that we host, PDUs of rooms that we take part in, and EDUs.

    Not rate-limited (decision 71); one transaction of an origin is processed at a time.
    """

    http_method_names = ["put"]

    def put(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """Process a transaction; 200 with `failed_pdus` when all of it is processed and committed."""
        process = partial(self._process, unquote(txn_id))
        return self.once("send", txn_id, process, stable=stable, exclusive=True)

    def _process(self, txn_id: str) -> HttpResponse:
        pdus, edus = lists_of(self.content)
        try:
            # First, as an EDU may be about somebody who joins by one of them.
            failed = receive_transaction(self.origin, pdus)
        finally:
            # Also where the events are to be sent again: those that cannot be placed do not hold up messages.
            receive_edus(self.origin, edus, txn_id=txn_id, body=self.body, now=timezone.now())
        return json_response({"failed_pdus": failed})
