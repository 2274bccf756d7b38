"""The federation endpoints, each on its stable path and, where the draft has one, its unstable path.

Decision 3: both are one view. Path parameters are matched percent-encoded, so that an encoded slash is part
of an id (decision 70). Routes are named as the draft names their endpoints: logs and metrics use the names.
"""

from django.urls import URLPattern, re_path
from rest_framework.views import APIView

from federation.views.devices import UserDevice, UserDevices, UserKeysQuery
from federation.views.history import Backfill, GetEvent, State, StateIds
from federation.views.invites import Invite
from federation.views.joins import MakeJoin, SendJoin
from federation.views.knocks import MakeKnock, SendKnock
from federation.views.leaves import MakeLeave, SendLeave
from federation.views.one_time_keys import UserKeysClaim
from federation.views.send import Send
from linmatrix.protocol.room_versions import UNSTABLE_PREFIX


def _both(version: str, path: str, view: type[APIView], *, name: str = "") -> list[URLPattern]:
    unstable, name = UNSTABLE_PREFIX.replace(".", r"\."), name or path.partition("/")[0]
    return [
        re_path(rf"^{version}/{path}\Z", view.as_view(), {"stable": True}, name=name),
        re_path(rf"^unstable/{unstable}/{path}\Z", view.as_view(), {"stable": False}, name=name),
    ]


urlpatterns = [
    *_both("v2", r"send/(?P<txn_id>[^/]+)", Send),
    *_both("v2", r"event/(?P<event_id>[^/]+)", GetEvent),
    *_both("v2", r"backfill/(?P<room_id>[^/]+)", Backfill),
    *_both("v3", r"invite/(?P<txn_id>[^/]+)", Invite),
    *_both("v3", r"send_join/(?P<txn_id>[^/]+)", SendJoin),
    *_both("v3", r"send_knock/(?P<txn_id>[^/]+)", SendKnock),
    *_both("v3", r"send_leave/(?P<txn_id>[^/]+)", SendLeave),
    *_both("v1", r"user/(?P<user_id>[^/]+)/device/(?P<device_id>[^/]+)", UserDevice, name="user_device"),
    re_path(r"^v1/state/(?P<room_id>[^/]+)\Z", State.as_view(), name="state"),
    re_path(r"^v1/state_ids/(?P<room_id>[^/]+)\Z", StateIds.as_view(), name="state_ids"),
    re_path(r"^v1/make_join/(?P<room_id>[^/]+)/(?P<user_id>[^/]+)\Z", MakeJoin.as_view(), name="make_join"),
    re_path(r"^v1/make_knock/(?P<room_id>[^/]+)/(?P<user_id>[^/]+)\Z", MakeKnock.as_view(), name="make_knock"),
    re_path(r"^v1/make_leave/(?P<room_id>[^/]+)/(?P<user_id>[^/]+)\Z", MakeLeave.as_view(), name="make_leave"),
    re_path(r"^v1/user/devices/(?P<user_id>[^/]+)\Z", UserDevices.as_view(), name="user_devices"),
    re_path(r"^v1/user/keys/query\Z", UserKeysQuery.as_view(), name="user_keys_query"),
    re_path(r"^v1/user/keys/claim\Z", UserKeysClaim.as_view(), name="user_keys_claim"),
]
