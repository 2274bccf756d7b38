"""`POST user/keys/claim` (draft, "One Time Key Claiming"; decision 113)."""

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.request import Request

from federation.responses import json_response
from federation.views.base import FederationView
from federation.views.devices import asked, tellable
from keys.devices.claiming import MAX_USERS, claim
from linmatrix.protocol.errors import Malformed


class UserKeysClaim(FederationView):
    """Keys for single use, and others where a device has no more of them.

    The one POST that is not the same twice: who did not get the answer has lost the keys, and a replayed request costs
    no more than the quota of who signed it (threat T15).
    """

    http_method_names = ["post"]

    def post(self, request: Request) -> HttpResponse:
        """`one_time_keys` by user, device and name; nothing for what there is not."""
        wanted = asked(self.content, "one_time_keys", dict, most_users=MAX_USERS)
        if not all(isinstance(algorithm, str) for devices in wanted.values() for algorithm in devices.values()):
            raise Malformed("one_time_keys holds something that is no algorithm")
        ours = {user_id: wanted[user_id] for user_id in tellable(wanted, self.origin)}
        return json_response({"one_time_keys": claim(self.origin, ours, now=timezone.now())})
