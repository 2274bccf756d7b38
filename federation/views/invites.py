"""`POST invite/:txnId` (draft, "Invites"; decisions 94 to 97)."""

from django.http import HttpResponse
from rest_framework.request import Request

from federation.errors import ApiError
from federation.invitations import append_invite, is_invite
from federation.invited import receive_invite
from federation.responses import spliced_response
from federation.views.base import FederationView, hosted_room
from keys.keyring import keys_for
from linmatrix.protocol.errors import Malformed
from linmatrix.protocol.events import CheckedEvent, Pdu, check_schema, is_lpdu
from linmatrix.protocol.identifiers import domain_of
from linmatrix.protocol.receipt import receive_lpdu


class Invite(FederationView):
    """Two requests in one: a participant asks us as hub (an LPDU), or a hub asks us to let a user be invited
    (a PDU)."""

    http_method_names = ["post"]

    def post(self, request: Request, txn_id: str, *, stable: bool) -> HttpResponse:
        """Answer with the complete, signed event."""
        return self.once("invite", txn_id, self._process, stable=stable)

    def _process(self) -> HttpResponse:
        event = check_schema(self.content.get("event"))
        pdu = self._as_hub(event) if is_lpdu(event) else receive_invite(self.origin, event, self.content)
        # The draft calls the member `pdu`, existing implementations `event` (decision 94).
        text = pdu.encoded.decode()
        return spliced_response(pdu=text, event=text)

    def _as_hub(self, event: CheckedEvent) -> Pdu:
        if not is_invite(event):
            raise ApiError(400, "M_INVALID_PARAM", "The event is not an invite.")
        room = hosted_room(event["room_id"], self.origin)
        if domain_of(event["sender"]) != self.origin:
            raise ApiError(403, "M_FORBIDDEN", "The sender is a user of another server.")
        if self.content.get("room_version") not in (None, room.version):
            raise Malformed("room_version is not that of the room")
        return append_invite(room, lpdu=receive_lpdu(event, keys=keys_for([event])))
