"""MLS as a server sees it (RFC 9420): who is in a group, and what each commit changes. Bytes in, values out.

A room with encryption is one MLS group, and its commits are PublicMessages, so that the hub can see whom they bring in
and take out (draft, "MLS Considerations"). This package reads them and follows the group:

    group = first_group(read_group_info(data), group_id=b"!room:example.org")
    change = group.apply(read_commit(message), read_group_info(public_group_state))
    change.added, change.removed, change.group

What is wrong is `InvalidMls`, and nothing else is ever raised; its rule is one of `Rule`.

An observer has no secret, and some things show to members only: whether the membership tag and the confirmation tag
are right, and whether the secrets sealed in a path open to what they should. So somebody in the group can make a
commit that passes here and that clients refuse. All else is signed: a commit's signature covers the tree and
the transcript before it, so two observers, or an observer and a member, cannot go on together from different states.

Lifetimes are not compared with any time; there is no clock here. Proposals are taken by value only, three kinds of
them: Add, Remove, ExternalInit (decision 115).

    tls            reading and writing the encoding
    ciphersuite    the one there is: signatures and hashes
    extensions, credential, leaves, key_packages, commits, group_info, framing    messages
    tree_math, tree, tree_reading, tree_checks    the ratchet tree
    proposals, path, transcript, group, storage    the group and its changes
"""

from linmatrix.protocol.mls.commits import Commit, read_commit
from linmatrix.protocol.mls.errors import InvalidMls, Rule
from linmatrix.protocol.mls.framing import MAX_GROUP_INFO_BYTES, MAX_MESSAGE_BYTES
from linmatrix.protocol.mls.group import Change, Group, first_group
from linmatrix.protocol.mls.group_info import GroupInfo, read_group_info
from linmatrix.protocol.mls.key_packages import KeyPackage, read_key_package
from linmatrix.protocol.mls.leaves import DeviceName

__all__ = [
    "MAX_GROUP_INFO_BYTES",
    "MAX_MESSAGE_BYTES",
    "Change",
    "Commit",
    "DeviceName",
    "Group",
    "GroupInfo",
    "InvalidMls",
    "KeyPackage",
    "Rule",
    "first_group",
    "read_commit",
    "read_group_info",
    "read_key_package",
]
