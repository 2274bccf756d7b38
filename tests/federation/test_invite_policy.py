"""Whose invites our users get (decision 117)."""

import pytest

from federation.errors import ApiError
from federation.invite_policy import check_invite, invite_allowed
from rooms.models import LocalUser

pytestmark = pytest.mark.django_db

BOB = "@bob:hub.example.org"
HUB = "part.example.org"


def test_without_a_policy_everybody_may_invite():
    assert invite_allowed(HUB, BOB, sender="@eve:evil.example.net")


@pytest.mark.parametrize(
    ("allow", "deny", "allowed"),
    [
        (["*"], [], True),
        (["*"], ["part.example.org"], False),
        (["*"], ["other.example.org"], True),
        (["*.example.org"], [], True),
        (["*.example.net"], [], False),
        ([], [], False),
        (["PART.example.org"], ["*.example.net"], True),
    ],
)
def test_the_operators_lists_decide_about_servers(allow, deny, allowed, settings):
    settings.INVITE_ALLOW, settings.INVITE_DENY = allow, deny
    assert invite_allowed(HUB, BOB) is allowed
    assert invite_allowed(f"{HUB}:8449", BOB) is allowed


def test_a_denied_server_does_not_reach_users_through_another_servers_room(settings):
    settings.INVITE_DENY = ["evil.example.net"]
    assert invite_allowed(HUB, BOB, sender=f"@user:{HUB}")
    assert not invite_allowed(HUB, BOB, sender="@user:evil.example.net")
    assert not invite_allowed("evil.example.net", BOB, sender=f"@user:{HUB}")


def test_a_user_may_refuse_all_invites_and_is_not_told_from_a_policy(settings):
    user = LocalUser.objects.create(localpart="bob")
    assert invite_allowed(HUB, BOB)
    user.refuses_invites = True
    user.save()
    assert not invite_allowed(HUB, BOB)
    assert invite_allowed(HUB, "@carol:hub.example.org")
    with pytest.raises(ApiError) as by_user:
        check_invite(HUB, BOB)
    settings.INVITE_DENY = [HUB]
    with pytest.raises(ApiError) as by_operator:
        check_invite(HUB, "@carol:hub.example.org")
    assert (by_user.value.status, by_user.value.errcode) == (403, "M_FORBIDDEN")
    assert by_user.value.response().content == by_operator.value.response().content
