"""MLS in rooms: a room's group as an observer knows it, and the check of every commit to it.

Draft sections "MLS Considerations", "Updating Group State" and "Receiving Events/PDUs"; decision 115. Each encrypted
room has one MLS group. Its members change it by commits, events of the type `m.mls.commit`, which a hub must refuse
where they would make a device a member that has no business in the room. To see what a commit changes one must know
the group that it changes, so each room's group is stored (`rooms.models.MlsGroup`) and goes on with every commit.

A commit is checked in two steps, because signatures and trees are no work for under a room's lock:

1. `preparing`, before the lock: read the commit and apply it to the stored group, or to what an earlier one of the
   same batch makes of that. The result is the next group and what changed, or the reason why not. Memberships are
   read, too, with the position of the room's line at that time.
2. `line`, under the lock: is the group still the one that it was applied to? Then the result holds, and what is left
   is to look at names: `linmatrix.protocol.mls_membership` against the state as it is now. If another commit came
   first, this one is of an epoch that is over.

`hub` refuses what does not pass; `participant` soft-fails it, notes a finding, and begins again with the next commit
that carries the group's tree. `stored` reads and writes groups and remembers those that are in use.
"""
