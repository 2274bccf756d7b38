"""How the console looks and what its menu offers, as django-unfold wants to be told."""

from typing import Any

from django.templatetags.static import static
from django.urls import reverse_lazy

# (title, [(text, Material Symbol, name of the page, permission or "")])
_MENU: tuple[tuple[str, tuple[tuple[str, str, str, str], ...]], ...] = (
    ("Overview", (("Dashboard", "monitoring", "index", ""),)),
    (
        "Rooms",
        (
            ("Rooms", "forum", "rooms_room_changelist", "rooms.view_room"),
            ("Events", "list_alt", "rooms_event_changelist", "rooms.view_event"),
            ("Invites and knocks", "mail", "rooms_pendinginvite_changelist", "rooms.view_pendinginvite"),
            ("Local users", "person", "rooms_localuser_changelist", "rooms.view_localuser"),
            ("Findings", "report", "rooms_finding_changelist", "rooms.view_finding"),
            ("State", "database", "rooms_stateentry_changelist", "rooms.view_stateentry"),
            ("Servers in rooms", "groups", "rooms_roomserver_changelist", "rooms.view_roomserver"),
            ("Missing history", "history_toggle_off", "rooms_gap_changelist", "rooms.view_gap"),
        ),
    ),
    (
        "Federation",
        (
            ("Destinations", "lan", "federation_destination_changelist", "federation.view_destination"),
            ("Sent", "outbox", "federation_outboundtransaction_changelist", "federation.view_outboundtransaction"),
            ("Received", "inbox", "federation_inboundtransaction_changelist", "federation.view_inboundtransaction"),
            ("LPDUs to hubs", "upload", "federation_outboundlpdu_changelist", "federation.view_outboundlpdu"),
            ("EDUs to send", "schedule_send", "federation_outboundedu_changelist", "federation.view_outboundedu"),
            ("Leaves to tell", "logout", "federation_pendingleave_changelist", "federation.view_pendingleave"),
            ("Blocked servers", "block", "federation_blockedserver_changelist", "federation.view_blockedserver"),
        ),
    ),
    (
        "Devices",
        (
            ("Our users' devices", "devices", "keys_device_changelist", "keys.view_device"),
            (
                "Their messages",
                "mark_email_unread",
                "federation_todeviceinbox_changelist",
                "federation.view_todeviceinbox",
            ),
            ("Told to others", "sync", "federation_devicelistcursor_changelist", "federation.view_devicelistcursor"),
            (
                "Devices of others",
                "important_devices",
                "keys_remotedevicelist_changelist",
                "keys.view_remotedevicelist",
            ),
        ),
    ),
    (
        "Keys",
        (
            ("Our keys", "key", "keys_own", "keys.view_serverkey"),
            ("Keys of others", "vpn_key", "keys_serverkey_changelist", "keys.view_serverkey"),
            ("Answers with keys", "contact_mail", "keys_keyresponse_changelist", "keys.view_keyresponse"),
            ("Asking for keys", "key_visualizer", "keys_keyfetch_changelist", "keys.view_keyfetch"),
        ),
    ),
    (
        "Staff",
        (
            ("Accounts", "badge", "auth_user_changelist", "auth.view_user"),
            ("Groups", "group", "auth_group_changelist", "auth.view_group"),
            ("What staff did", "history", "admin_logentry_changelist", "admin.view_logentry"),
        ),
    ),
)


def appearance(server_name: str) -> dict[str, Any]:
    """The value of the setting UNFOLD."""
    return {
        "SITE_TITLE": "linmatrix",
        "SITE_HEADER": "linmatrix",
        "SITE_SUBHEADER": server_name,
        "SITE_SYMBOL": "hub",
        "SITE_URL": None,  # there is no other site to go to
        "SITE_FAVICONS": [
            {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/icon.svg")},
        ],
        "SHOW_HISTORY": True,
        "SHOW_VIEW_ON_SITE": False,
        "DASHBOARD_CALLBACK": "linmatrix.console.dashboard.add_figures",
        "STYLES": [lambda request: static("console/console.css")],
        "SIDEBAR": {
            "show_search": True,
            "show_all_applications": True,
            "navigation": [{"title": title, "separator": True, "items": _items(items)} for title, items in _MENU],
        },
    }


def _items(items: tuple[tuple[str, str, str, str], ...]) -> list[dict[str, Any]]:
    return [
        {
            "title": text,
            "icon": icon,
            "link": reverse_lazy(f"admin:{page}"),
            # Bound here: each item asks for its own.
            "permission": lambda request, permission=permission: not permission or request.user.has_perm(permission),
        }
        for text, icon, page, permission in items
    ]
