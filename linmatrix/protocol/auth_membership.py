"""Rule 5: how memberships may change.

Draft section "Auth Rules Algorithm", rule 5, one function per membership that an event asks for; each
returns to allow the event and raises `Rejected` to refuse it. In every function `target` is the user
in the state key, whose membership changes. There are no restricted joins: what vouches for one in Matrix
is content like any other here (decision 46).
"""

from linmatrix.protocol.auth_events import AuthorizedEvent
from linmatrix.protocol.errors import Rejected
from linmatrix.protocol.identifiers import is_user_id
from linmatrix.protocol.power_levels import Action, action_level, user_level
from linmatrix.protocol.state import CREATE, State, join_rule, membership


def check_membership(event: AuthorizedEvent, *, state: State, previous_is_create: bool) -> None:
    """Rule 5: dispatch on the membership asked for; 5.1 and 5.7 refuse what names none.

    That the state key is a user id is the draft's section "m.room.member", which leaves it to this rule.
    """
    target = event.state_key
    if target is None or not is_user_id(target):
        raise Rejected("5.1", "a membership event needs a user id as its state key")
    if "membership" not in event.content:
        raise Rejected("5.1", "a membership event needs a membership")
    match event.content["membership"]:
        case "join":
            _check_join(state, event.sender, target, previous_is_create)
        case "invite":
            _check_invite(state, event.sender, target)
        case "leave":
            _check_leave(state, event.sender, target)
        case "ban":
            _check_ban(state, event.sender, target)
        case "knock":
            _check_knock(state, event.sender, target)
        case str(unknown):
            raise Rejected("5.7", f"unknown membership {unknown[:20]!r}")
        case _:
            raise Rejected("5.7", "the membership is not a string")


def _check_join(state: State, sender: str, target: str, previous_is_create: bool) -> None:
    """Rule 5.2: users join for themselves, as the join rule has it; the creator joins right after creating.

    The draft's 5.2.1 does not look at the sender, so that anyone could join the creator by force;
    decision 44 requires the creator's own event, and 5.2.2 refuses the others.
    """
    if previous_is_create and state[CREATE].sender == target == sender:
        return
    if sender != target:
        raise Rejected("5.2.2", "nobody can join for another user")
    current = membership(state, sender)
    if current == "ban":
        raise Rejected("5.2.3", "the sender is banned")
    match join_rule(state):
        case "invite" | "knock" as rule:
            if current not in ("invite", "join"):
                raise Rejected("5.2.4", f"the join rule is {rule} and the sender's membership {current:.20}")
        case "public":
            return
        case other:
            raise Rejected("5.2.6", f"the join rule {other[:20]!r} lets nobody join")


def _check_invite(state: State, sender: str, target: str) -> None:
    """Rule 5.3: those joined invite whoever is neither joined nor banned, given the power level."""
    _check_joined("5.3.1", state, sender)
    current = membership(state, target)
    if current in ("join", "ban"):
        raise Rejected("5.3.2", f"the invited user's membership is {current}")
    _check_action("5.3.4", state, sender, "invite")


def _check_leave(state: State, sender: str, target: str) -> None:
    """Rule 5.4: leaving, rejecting an invite, taking back a knock; by another user: kicking and unbanning."""
    current = membership(state, target)
    if sender == target:
        if current not in ("knock", "join", "invite"):
            raise Rejected("5.4.1", f"the sender's membership is {current:.20}: there is nothing to leave")
        return
    _check_joined("5.4.2", state, sender)
    if current == "ban":
        _check_action("5.4.3", state, sender, "ban")
    _check_action("5.4.5", state, sender, "kick")
    _check_outranks("5.4.5", state, sender, target)


def _check_ban(state: State, sender: str, target: str) -> None:
    """Rule 5.5: those joined ban users below them, given the power level."""
    _check_joined("5.5.1", state, sender)
    _check_action("5.5.3", state, sender, "ban")
    _check_outranks("5.5.3", state, sender, target)


def _check_knock(state: State, sender: str, target: str) -> None:
    """Rule 5.6: users who are neither joined nor banned knock for themselves where the join rule is knock.

    Those invited may knock too (decision 48).
    """
    rule = join_rule(state)
    if rule != "knock":
        raise Rejected("5.6.1", f"the join rule is {rule[:20]!r}, not knock")
    if sender != target:
        raise Rejected("5.6.2", "nobody can knock for another user")
    current = membership(state, sender)
    if current in ("ban", "join"):
        raise Rejected("5.6.4", f"the sender's membership is {current}")


def _check_joined(rule: str, state: State, sender: str) -> None:
    current = membership(state, sender)
    if current != "join":
        raise Rejected(rule, f"the sender's membership is {current:.20}, not join")


def _check_action(rule: str, state: State, sender: str, action: Action) -> None:
    needed, level = action_level(state, action), user_level(state, sender)
    if level < needed:
        raise Rejected(rule, f"the {action} level needs {needed}, has {level}")


def _check_outranks(rule: str, state: State, sender: str, target: str) -> None:
    target_level, level = user_level(state, target), user_level(state, sender)
    if target_level >= level:
        raise Rejected(rule, f"acting on a user with {target_level} needs {target_level + 1}, has {level}")
