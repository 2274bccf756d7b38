"""`PUT send/:txnId` (draft, "Sending Events"; decisions 74 to 83)."""

from django.http import HttpResponse
from rest_framework.request import Request

from federation.inbound import lists_of, receive_transaction
from federation.responses import json_response
from federation.views.base import FederationView


class Send(FederationView):
    """Takes in LPDUs for rooms that we host and PDUs of rooms that we take part in.

    Not rate-limited (decision 71); one transaction of an origin is processed at a time.
    """

    http_method_names = ["put"]

    def put(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """Process a transaction; 200 with `failed_pdus` when all of it is processed and committed."""
        return self.once("send", txn_id, self._process, stable=stable, exclusive=True)

    def _process(self) -> HttpResponse:
        # EDUs are for features that this server does not have; the draft lets a receiver ignore their types.
        pdus, _edus = lists_of(self.content)
        return json_response({"failed_pdus": receive_transaction(self.origin, pdus)})
